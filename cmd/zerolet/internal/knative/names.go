package knative

import (
	"fmt"
	"regexp"
	"strings"
)

// label makes a name that Kubernetes takes for an object and Knative for a
// Service: a DNS label that begins with a letter (RFC 1035), of at most 63
// bytes. It is "" where nothing is left to begin with.
func label(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	name = strings.TrimLeft(name, "-0123456789")
	if len(name) > 63 {
		name = name[:63]
	}
	return strings.TrimRight(name, "-")
}

// unique gives a name that is taken a number.
func unique(name string, taken func(string) bool) string {
	if name == "" {
		name = "volume"
	}
	for n, first := 2, name; taken(name); n++ {
		suffix := fmt.Sprintf("-%d", n)
		name = strings.TrimRight(first[:min(len(first), 63-len(suffix))], "-") + suffix
	}
	return name
}

// The grammars of Kubernetes (k8s.io/apimachinery/pkg/util/validation) and of
// image references (github.com/distribution/reference), which Knative takes
// where the name has 2 to 255 bytes (github.com/google/go-containerregistry/pkg/name).
const (
	labelName = `[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?`
	subdomain = `[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*`

	imageHost = `(?:[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[-A-Za-z0-9]*[A-Za-z0-9])?)*(?::[0-9]+)?/)?`
	imagePath = `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*`
	imageTag  = `(?::[A-Za-z0-9_][-A-Za-z0-9_.]{0,126})?(?:@sha256:[0-9a-f]{64})?`
)

func matches(pattern, text string) bool {
	return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(text)
}

// isMetadataKey reports whether a label or an annotation can have this key.
func isMetadataKey(key string) bool {
	prefix, name, ok := strings.Cut(key, "/")
	if !ok {
		return matches(labelName, key)
	}
	return len(prefix) <= 253 && matches(subdomain, prefix) && matches(labelName, name)
}

func isLabelValue(value string) bool { return value == "" || matches(labelName, value) }

// isDataKey reports whether a ConfigMap or a Secret can have this key.
func isDataKey(key string) bool {
	return matches(`[-._A-Za-z0-9]{1,253}`, key) && key != "." && !strings.HasPrefix(key, "..")
}

// isEnvName is what Kubernetes took for the name of an environment variable
// before 1.34, and every version takes.
func isEnvName(name string) bool {
	return matches(`[-._A-Za-z][-._A-Za-z0-9]*`, name) && name != "." && !strings.HasPrefix(name, "..")
}

func isImage(text string) bool {
	name := regexp.MustCompile(`^` + imageHost + `(` + imagePath + `(?:/` + imagePath + `)*)` + imageTag + `$`).FindStringSubmatch(text)
	return name != nil && len(name[1]) >= 2 && len(name[1]) <= 255
}
