package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/zerolet/zerolet/generator"
	"github.com/zerolet/zerolet/proxy/wire"
	"github.com/zerolet/zerolet/quadlet"
)

// forgetWaits removes what is noted for the pages of services that show none any more
// (WaitingPage=).
func (c *call) forgetWaits(plan *generator.Plan) (err error) {
	for _, dir := range c.waitDirs() {
		if !filepath.IsAbs(dir) { // the environment does not say where that is
			continue
		}
		entries, e := os.ReadDir(dir)
		if !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		for _, entry := range entries {
			if !plan.HasPage(entry.Name()) {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
			}
		}
	}
	return err
}

// waitDirs are where that is. What is a dynamic user's is in a private directory, with
// a link to it in the other (systemd.exec(5), DynamicUser=).
func (c *call) waitDirs() []string {
	if c.manager == quadlet.System {
		return []string{"/run/" + wire.Results, "/var/cache/" + wire.Wakes, "/var/cache/private/" + wire.Wakes}
	}
	cache := c.getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(c.getenv("HOME"), ".cache")
	}
	return []string{filepath.Join(c.getenv("XDG_RUNTIME_DIR"), wire.Results), filepath.Join(cache, wire.Wakes)}
}
