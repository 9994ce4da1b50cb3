// The port is the protocol once more, from the text of its specification alone. This program runs the test vectors and
// prints the name of each with what became of it.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
)

func main() {
	directory := flag.String("vectors", "../../../spec/vectors", "the directory of the vectors")
	reasons := flag.Bool("reasons", false, "also print where this port names another requirement than `refused_by`")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: go run . [-vectors DIR] [-reasons]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	suite, err := loadSuite(*directory)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	out := bufio.NewWriter(os.Stdout)
	bad := suite.run(out, *reasons)
	out.Flush()
	if bad > 0 {
		os.Exit(1)
	}
}
