// Records what kubectl reads in each text: one JSON string a line from standard input, one answer a line to standard output.
//
//	TEXTS=texts.jsonl COUNT=4000 cargo test --test engine layouts -- --ignored
//	mkdir record && cp tests/layouts/record.go record/main.go && cd record && go mod init record && go mod tidy
//	go run . < ../texts.jsonl > ../tests/layouts/recorded.jsonl
//
// Of the texts that kubectl rejects it keeps one in four.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

type answer struct {
	Text      string            `json:"text"`
	Documents []json.RawMessage `json:"documents"`
	Error     bool              `json:"error,omitempty"`
}

// The documents of a text as a client sends them, up to the first error.
func read(text string) answer {
	a := answer{Text: text, Documents: []json.RawMessage{}}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(text)), 4096)
	for {
		extension := runtime.RawExtension{}
		if err := decoder.Decode(&extension); err != nil {
			a.Error = !errors.Is(err, io.EOF)
			return a
		}
		raw := bytes.TrimSpace(extension.Raw)
		if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
			continue
		}
		var value any
		sent := []byte(nil)
		err := utiljson.Unmarshal(raw, &value)
		if err == nil {
			sent, err = json.Marshal(value)
		}
		if err != nil {
			a.Error = true
			return a
		}
		a.Documents = append(a.Documents, sent)
	}
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<26)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	rejected := 0
	for in.Scan() {
		var text string
		if err := json.Unmarshal(in.Bytes(), &text); err != nil {
			panic(err)
		}
		a := read(text)
		if a.Error {
			rejected++
		}
		if !a.Error || rejected%4 == 0 {
			if err := out.Encode(a); err != nil {
				panic(err)
			}
		}
	}
}
