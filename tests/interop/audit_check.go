// Judges what our audit log gives out by golang.org/x/mod/sumdb alone:
//
//	audit_check VKEY PROOF                  a proof of one record, C2SP tlog-proof
//	audit_check VKEY PROOF OLD_CHECKPOINT   a proof that the log only grew since
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

func run(vkey, file string, more []string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	head, signed, _ := bytes.Cut(data, []byte("\n\n"))
	size, root, err := checkpoint(vkey, signed)
	if err != nil {
		return err
	}
	lines := strings.Split(string(head), "\n")
	if strings.HasPrefix(lines[0], "old ") {
		was, err := os.ReadFile(more[0])
		if err != nil {
			return err
		}
		oldSize, oldRoot, err := checkpoint(vkey, was)
		if err != nil {
			return err
		}
		hashes, err := decoded(lines[1:])
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(tlog.TreeProof(hashes), size, root, oldSize, oldRoot); err != nil {
			return err
		}
		fmt.Println("grown from", oldSize, "to", size)
		return nil
	}
	record, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
	if err != nil {
		return err
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64)
	if err != nil {
		return err
	}
	hashes, err := decoded(lines[3:])
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(tlog.RecordProof(hashes), size, root, index, tlog.RecordHash(record)); err != nil {
		return err
	}
	fmt.Println("record", index+1, "of", size)
	return nil
}

func checkpoint(vkey string, signed []byte) (int64, tlog.Hash, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return 0, tlog.Hash{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return size, root, err
}

func decoded(lines []string) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, line := range lines {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}
