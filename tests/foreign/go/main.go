// A Go program as people write it: goroutines that meet in a channel, a file, flags, and an exit code.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// square is what one worker found.
type square struct {
	Of     int `json:"of"`
	Square int `json:"square"`
}

func main() {
	workers := flag.Int("workers", 1, "how many")
	flag.Parse()

	found := make(chan square)
	var all sync.WaitGroup
	for n := range *workers {
		all.Add(1)
		go func() {
			defer all.Done()
			time.Sleep(time.Millisecond)
			found <- square{n, n * n}
		}()
	}
	go func() {
		all.Wait()
		close(found)
	}()
	sum := 0
	for one := range found {
		sum += one.Square
	}

	// More memory than a program begins with, beside what the host keeps there.
	pieces := make([][]byte, 32)
	for n := range pieces {
		pieces[n] = bytes.Repeat([]byte{byte(n)}, 1<<20)
	}
	fmt.Printf("%x\n", sha256.Sum256(bytes.Join(pieces, nil)))

	path := filepath.Join("/data", "sum.json")
	text, _ := json.Marshal(square{*workers, sum})
	if err := os.WriteFile(path, text, 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	back, err := os.ReadFile(path)
	fmt.Printf("%s %v %x\n", back, err, sha256.Sum256(back))
	_, err = os.ReadFile("/etc/shadow")
	fmt.Println(err)
	os.Exit(42)
}
