// Package knative writes a scaled .container file as a Knative Service, with
// the Kubernetes objects that it needs. What it cannot write it tells, at the
// line of the file: nothing that the file says is dropped without a word.
//
// It does not talk to a cluster, and knows neither Kubernetes' types nor its
// validation: the objects are plain structures with the few fields that are
// used here. test/knative holds them to Knative's own code.
package knative
