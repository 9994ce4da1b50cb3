package main

// The consumer: it reads manifest and files, runs each vector, and compares.

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"xlattice-port/internal/wire"
)

// A vector is one test vector, as FORMAT.md describes it.
type vector struct {
	Name         string          `json:"name"`
	Op           string          `json:"op"`
	Requirements []string        `json:"requirements"`
	Level        string          `json:"level"`
	Role         string          `json:"role"`
	Comment      string          `json:"comment"`
	Input        json.RawMessage `json:"input"`
	Output       json.RawMessage `json:"output"`
	FailLayer    string          `json:"fail_layer"`
	RefusedBy    string          `json:"refused_by"`
	Base         string          `json:"base"`
	Change       string          `json:"change"`
}

// A vectorFile is a file of vectors, each of which is read by itself: one that has an unknown key is skipped alone.
type vectorFile struct {
	Title   string            `json:"title"`
	Vectors []json.RawMessage `json:"vectors"`
}

type manifest struct {
	Format   int `json:"format"`
	Protocol int `json:"protocol"`
	Vectors  int `json:"vectors"`
	Files    map[string]struct {
		SHA256  string            `json:"sha256"`
		Vectors map[string]string `json:"vectors"`
	} `json:"files"`
	Others map[string]string `json:"others"`
}

// A suite is what there is to run.
type suite struct {
	fixtures *fixtures
	vectors  []json.RawMessage
	missing  []string // names in the manifest that no vector has
}

// errSkip marks what this program does not know; the vector is skipped and reported.
var errSkip = errors.New("skip")

func skip(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errSkip, fmt.Sprintf(format, args...))
}

// unmarshal refuses keys that are not known.
func unmarshal(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return skip("%v", err)
	}
	return nil
}

func readFile(directory, name string, into any) error {
	data, err := os.ReadFile(filepath.Join(directory, name))
	if err != nil {
		return err
	}
	if err := unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// loadSuite reads the manifest, the fixtures and the files that the manifest names.
func loadSuite(directory string) (*suite, error) {
	var m manifest
	if err := readFile(directory, "manifest.json", &m); err != nil {
		return nil, err
	}
	if m.Format != 1 || m.Protocol != 2 {
		return nil, fmt.Errorf("vectors of format %d for protocol %d", m.Format, m.Protocol)
	}
	if m.Others[fixturesName] == "" || m.Vectors == 0 {
		return nil, errors.New("no fixtures, or no vectors, in the manifest")
	}
	for _, name := range slices.Sorted(maps.Keys(m.Others)) {
		if _, err := readWhole(directory, name, m.Others[name]); err != nil {
			return nil, err
		}
	}
	s := &suite{}
	var err error
	if s.fixtures, err = loadFixtures(directory); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		data, err := readWhole(directory, name, m.Files[name].SHA256)
		if err != nil {
			return nil, err
		}
		var file vectorFile
		if err := unmarshal(data, &file); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		s.vectors = append(s.vectors, file.Vectors...)
		listed := maps.Clone(m.Files[name].Vectors)
		for _, v := range file.Vectors {
			if _, ok := listed[nameOf(v)]; !ok {
				return nil, fmt.Errorf("%s is not in the manifest", nameOf(v))
			}
			delete(listed, nameOf(v))
		}
		s.missing = append(s.missing, slices.Sorted(maps.Keys(listed))...)
	}
	if n := len(s.vectors) + len(s.missing); n != m.Vectors {
		return nil, fmt.Errorf("%d vectors, not the %d of the manifest", n, m.Vectors)
	}
	return s, nil
}

// readWhole reads a file that has to have this SHA-256.
func readWhole(directory, name, want string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(directory, name))
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
		return nil, fmt.Errorf("%s is not the file of the manifest", name)
	}
	return data, nil
}

func nameOf(data json.RawMessage) string {
	var v struct{ Name string }
	if json.Unmarshal(data, &v) != nil || v.Name == "" {
		return "(a vector without name)"
	}
	return v.Name
}

// run runs every vector and counts those that did not pass.
func (s *suite) run(out io.Writer, reasons bool) (bad int) {
	for _, data := range s.vectors {
		name := nameOf(data)
		reason, err := s.runOne(data)
		switch {
		case err == nil:
			fmt.Fprintf(out, "ok %s\n", name)
		case errors.Is(err, errSkip):
			bad++
			fmt.Fprintf(out, "SKIP %s: %s\n", name, strings.TrimPrefix(err.Error(), "skip: "))
		default:
			bad++
			fmt.Fprintf(out, "FAIL %s: %v\n", name, err)
		}
		if reasons && reason != "" {
			fmt.Fprintf(out, "reason %s: %s\n", name, reason)
		}
	}
	for _, name := range s.missing {
		bad++
		fmt.Fprintf(out, "FAIL %s: in the manifest, but not in its file\n", name)
	}
	return bad
}

// A result is what an operation gave: an output, a refusal, or both where a refusal can be seen.
type result struct {
	output  map[string]any
	refusal error
}

// An operation does what an op says. Its own error says that the vector is skipped or has failed.
type operation func(f *fixtures, input json.RawMessage) (result, error)

// op makes an operation of a function that takes the keys of `input` as a struct.
func op[T any](do func(*fixtures, T) (result, error)) operation {
	return func(f *fixtures, input json.RawMessage) (result, error) {
		var in T
		if err := unmarshal(input, &in); err != nil {
			return result{}, err
		}
		return do(f, in)
	}
}

func (s *suite) runOne(data json.RawMessage) (reason string, err error) {
	var v vector
	if err := unmarshal(data, &v); err != nil {
		return "", err
	}
	op, ok := operations[v.Op]
	switch {
	case !ok:
		return "", skip("unknown op %q", v.Op)
	case !levels[v.Level] || !roles[v.Role]:
		return "", skip("unknown level %q or role %q", v.Level, v.Role)
	case v.FailLayer != "" && !layers[v.FailLayer]:
		return "", skip("unknown fail_layer %q", v.FailLayer)
	}
	got, err := runOperation(op, s.fixtures, v.Input)
	if err != nil {
		return "", err
	}
	if (v.FailLayer != "") != (got.refusal != nil) {
		return "", fmt.Errorf("refused: %v", got.refusal)
	}
	if v.FailLayer != "" {
		l := layerOf(got.refusal)
		oneToR := v.Op == "respond" && v.FailLayer == "oaep" && l == "hello_aead" // [HS-40]
		if l != v.FailLayer && !oneToR {
			return "", fmt.Errorf("refused in layer %q, not %q: %v", l, v.FailLayer, got.refusal)
		}
		if !slices.Contains(idsOf(got.refusal), v.RefusedBy) {
			reason = fmt.Sprintf("%s here: %v", v.RefusedBy, got.refusal)
		}
		if got.output == nil && v.Output == nil {
			return reason, nil
		}
	}
	return reason, compareOutput(got.output, v.Output)
}

// runOperation turns a panic of an operation into a failure of its vector.
func runOperation(op operation, f *fixtures, input json.RawMessage) (got result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return op(f, input)
}

// compareOutput compares the output of an operation with that of the vector, key by key.
func compareOutput(got map[string]any, wanted json.RawMessage) error {
	encoded, err := json.Marshal(got)
	if err != nil {
		return err
	}
	var a, b any
	if err := json.Unmarshal(encoded, &a); err != nil {
		return err
	}
	if len(wanted) > 0 {
		if err := json.Unmarshal(wanted, &b); err != nil {
			return err
		}
	}
	return compare("output", a, b)
}

func compare(path string, got, wanted any) error {
	switch w := wanted.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			break
		}
		for key := range w {
			if _, ok := g[key]; !ok {
				return fmt.Errorf("%s.%s is missing here", path, key)
			}
		}
		for key, value := range g {
			wantedValue, ok := w[key]
			if !ok {
				return fmt.Errorf("%s.%s is not in the vector", path, key)
			}
			if err := compare(path+"."+key, value, wantedValue); err != nil {
				return err
			}
		}
		return nil
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			break
		}
		for i := range w {
			if err := compare(fmt.Sprintf("%s[%d]", path, i), g[i], w[i]); err != nil {
				return err
			}
		}
		return nil
	default:
		if got == wanted {
			return nil
		}
	}
	return fmt.Errorf("%s is %s, not %s", path, short(got), short(wanted))
}

func short(value any) string {
	text := fmt.Sprint(value)
	if len(text) > 200 {
		text = text[:200] + "..."
	}
	return text
}

// The closed lists of a vector's keys.
var levels = map[string]bool{"MUST": true, "SHOULD": true, "MAY": true}

var roles = map[string]bool{
	"initiator": true, "responder": true, "both": true, "member": true, "client": true, "authority": true,
}

var layers = map[string]bool{
	"frame": true, "version": true, "decode": true, "mac": true, "replay": true, "oaep": true, "hello_aead": true,
	"recipient": true, "role": true, "membership": true, "signature": true, "reply_aead": true, "record": true,
	"session": true, "link": true,
}

// idsOf gives the requirements of a refusal, from the outermost in.
func idsOf(err error) (ids []string) {
	for err != nil {
		if id := wire.RefusedBy(err); id != "" && (len(ids) == 0 || ids[len(ids)-1] != id) {
			ids = append(ids, id)
		}
		err = errors.Unwrap(err)
	}
	return ids
}
