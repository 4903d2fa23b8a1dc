// Smallstep's certificate authority as it is, with the settings of one file: step_ca CA.JSON
package main

import (
	"fmt"
	"os"

	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/ca"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(file string) error {
	settings, err := config.LoadConfiguration(file)
	if err != nil {
		return err
	}
	server, err := ca.New(settings)
	if err != nil {
		return err
	}
	return server.Run()
}
