package main

import (
	"context"
	"flag"
	"slices"
	"strings"
)

// complete prints what the last of the words may become, for the completions of
// the shells.
func (c *call) complete(ctx context.Context, words []string) error {
	last := words[len(words)-1]
	for _, candidate := range c.candidates(ctx, words) {
		if strings.HasPrefix(candidate, last) {
			if err := c.printf("%s\n", candidate); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *call) candidates(ctx context.Context, words []string) []string {
	var found []string
	all := verbs()
	if len(words) == 1 && strings.HasPrefix(words[0], "-") {
		return []string{"--help", "--version"}
	}
	if len(words) == 1 {
		for _, v := range all {
			if !v.unit {
				found = append(found, v.name)
			}
		}
		return found
	}
	i := slices.IndexFunc(all, func(v verb) bool { return v.name == words[0] })
	if i < 0 {
		return nil
	}
	flags, manager := all[i].flagSet(&c.options, c.uid)
	if strings.HasPrefix(words[len(words)-1], "-") {
		flags.VisitAll(func(f *flag.Flag) { found = append(found, "--"+f.Name) })
		return found
	}
	if all[i].names == noNames || all[i].names == oneDir || takesValue(flags, words[len(words)-2]) {
		return nil
	}
	for _, word := range words[1 : len(words)-1] { // which may be names, or wrong
		_ = flags.Parse([]string{word})
	}
	c.manager = manager()
	for _, e := range c.planOf(ctx).Endpoints {
		found = append(found, e.Spec.Unit)
	}
	return found
}

// takesValue says whether the next word is the value of this one.
func takesValue(flags *flag.FlagSet, word string) bool {
	f := flags.Lookup(strings.TrimLeft(word, "-"))
	if f == nil || !strings.HasPrefix(word, "-") {
		return false
	}
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return !ok || !b.IsBoolFlag()
}
