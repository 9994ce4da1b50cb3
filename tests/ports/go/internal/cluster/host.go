package cluster

// Hosts (3.3).

import (
	"fmt"
	"strconv"
	"strings"

	"xlattice-port/internal/wire"
)

// HostKind decides which kind of host a text means to be, and checks the rule of that kind (3.3).
func HostKind(host string) (string, error) {
	last := host[strings.LastIndexByte(host, '.')+1:]
	switch {
	case strings.Contains(host, ":"):
		return "ipv6", checkIPv6(host)
	case last != "" && isLower(last[0]):
		return "dns", checkDNS(host)
	}
	return "ipv4", checkIPv4(host)
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// checkIPv4 is [RO-4].
func checkIPv4(host string) error {
	parts := strings.Split(host, ".")
	if len(parts) != 4 {
		return wire.Refuse("RO-4", "%d numbers", len(parts))
	}
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil || strconv.FormatUint(n, 10) != p {
			return wire.Refuse("RO-4", "%q is no number from 0 to 255", p)
		}
	}
	return nil
}

// checkDNS is [RO-7].
func checkDNS(host string) error {
	for _, l := range strings.Split(host, ".") {
		if len(l) < 1 || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return wire.Refuse("RO-7", "the label %q", l)
		}
		for i := range len(l) {
			if !isLower(l[i]) && !isDigit(l[i]) && l[i] != '-' {
				return wire.Refuse("RO-7", "the label %q", l)
			}
		}
	}
	return nil
}

// checkIPv6 parses the address, writes it as RFC 5952 does, and compares: [RO-5], [RO-6].
func checkIPv6(host string) error {
	groups, ok := parseIPv6(host)
	if !ok {
		return wire.Refuse("RO-5", "no IPv6 address in groups")
	}
	if written := formatIPv6(groups); written != host {
		return wire.Refuse("RO-5", "this address is written %s", written)
	}
	mapped := groups[5] == 0xffff
	for _, g := range groups[:5] {
		mapped = mapped && g == 0
	}
	if mapped {
		return wire.Refuse("RO-6", "an IPv4-mapped address")
	}
	return nil
}

// parseIPv6 reads hexadecimal groups, at most one `::` between them standing for at least one group of zeros.
func parseIPv6(host string) (groups [8]uint16, ok bool) {
	left, right, compressed := strings.Cut(host, "::")
	head, okHead := parseGroups(left, compressed)
	tail, okTail := parseGroups(right, true)
	n := len(head) + len(tail)
	if !okHead || !okTail || compressed && n > 7 || !compressed && n != 8 {
		return groups, false
	}
	copy(groups[:], head)
	copy(groups[8-len(tail):], tail)
	return groups, true
}

func parseGroups(text string, mayBeEmpty bool) ([]uint16, bool) {
	if text == "" {
		return nil, mayBeEmpty
	}
	var groups []uint16
	for _, part := range strings.Split(text, ":") {
		n, err := strconv.ParseUint(part, 16, 16)
		if err != nil || len(part) > 4 {
			return nil, false
		}
		groups = append(groups, uint16(n))
	}
	return groups, true
}

// formatIPv6 writes an address as RFC 5952, section 4, in hexadecimal groups only.
func formatIPv6(groups [8]uint16) string {
	begin, run := 0, 0
	for i := 0; i < 8; i++ {
		j := i
		for j < 8 && groups[j] == 0 {
			j++
		}
		if j-i > run {
			begin, run = i, j-i
		}
		i = max(i, j-1)
	}
	write := func(gs []uint16) string {
		parts := make([]string, len(gs))
		for i, g := range gs {
			parts[i] = fmt.Sprintf("%x", g)
		}
		return strings.Join(parts, ":")
	}
	if run < 2 {
		return write(groups[:])
	}
	return write(groups[:begin]) + "::" + write(groups[begin+run:])
}
