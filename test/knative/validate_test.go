package knative

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"knative.dev/pkg/apis"
	"knative.dev/serving/pkg/apis/config"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/yaml"
)

// cluster is a Knative as it is installed, with the features that are named.
type cluster struct {
	structural *schema.Structural
	validator  schemavalidation.SchemaValidator
	config     *config.Config
}

// installed is Knative as it is installed. It is read once.
var installed = sync.OnceValues(func() (*cluster, error) {
	dir, err := moduleDir(".", "knative.dev/serving")
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "config/core/300-resources/service.yaml"))
	if err != nil {
		return nil, err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(data, &crd); err != nil {
		return nil, err
	}
	var props apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
		return nil, err
	}
	c := new(cluster)
	if c.structural, err = schema.NewStructural(&props); err != nil {
		return nil, err
	}
	c.validator, _, err = schemavalidation.NewSchemaValidator(&props)
	return c, err
})

func newCluster(t *testing.T, features ...string) *cluster {
	t.Helper()
	base, err := installed()
	if err != nil {
		t.Fatal(err)
	}
	c := *base
	enabled := make(map[string]string)
	for _, f := range features {
		enabled[f] = "enabled"
	}
	c.config = config.FromContextOrDefaults(t.Context())
	if c.config.Features, err = config.NewFeaturesConfigFromMap(enabled); err != nil {
		t.Fatal(err)
	}
	return &c
}

// stream is what an export printed, read as the cluster reads it.
type stream struct {
	services   []*servingv1.Service
	configMaps map[string]*corev1.ConfigMap
	claims     map[string]*corev1.PersistentVolumeClaim
}

// apply is what "kubectl apply" and Knative's webhook say of a stream. Missing
// are the objects that the export said have to be made.
func (c *cluster) apply(text []byte, missing string) (*stream, error) {
	s := &stream{configMaps: make(map[string]*corev1.ConfigMap), claims: make(map[string]*corev1.PersistentVolumeClaim)}
	var errs []error
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			return s, fmt.Errorf("%w in\n%s", err, doc)
		}
		switch kind.APIVersion + " " + kind.Kind {
		case "serving.knative.dev/v1 Service":
			service, err := c.service(doc)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", service.Name, err))
			}
			s.services = append(s.services, service)
		case "v1 ConfigMap":
			object := new(corev1.ConfigMap)
			errs = append(errs, yaml.UnmarshalStrict(doc, object), named("ConfigMap", object.Name))
			for key := range object.Data {
				errs = append(errs, invalid("key", key, validation.IsConfigMapKey(key)))
			}
			s.configMaps[object.Name] = object
		case "v1 PersistentVolumeClaim":
			object := new(corev1.PersistentVolumeClaim)
			errs = append(errs, yaml.UnmarshalStrict(doc, object), named("claim", object.Name))
			if size := object.Spec.Resources.Requests.Storage(); size.Sign() <= 0 || len(object.Spec.AccessModes) == 0 {
				errs = append(errs, fmt.Errorf("claim %s: size %s, modes %v", object.Name, size, object.Spec.AccessModes))
			}
			s.claims[object.Name] = object
		default:
			errs = append(errs, fmt.Errorf("unexpected %+v", kind))
		}
	}
	for _, service := range s.services {
		errs = append(errs, s.references(service, missing))
	}
	return s, errors.Join(errs...)
}

// service holds one Service to the schema of the CRD, and to Knative's
// defaulting and validation.
func (c *cluster) service(doc []byte) (*servingv1.Service, error) {
	var object map[string]any
	if err := yaml.UnmarshalStrict(doc, &object); err != nil {
		return new(servingv1.Service), err
	}
	var errs []error
	for _, err := range schemavalidation.ValidateCustomResource(nil, object, c.validator) {
		errs = append(errs, fmt.Errorf("schema: %w", err))
	}
	for _, path := range pruning.PruneWithOptions(object, c.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		errs = append(errs, fmt.Errorf("schema: unknown field %s", path))
	}
	service := new(servingv1.Service)
	if err := yaml.UnmarshalStrict(doc, service); err != nil {
		return service, errors.Join(append(errs, err)...)
	}
	ctx := apis.WithinCreate(config.ToContext(context.Background(), c.config))
	service.SetDefaults(ctx)
	if err := service.Validate(ctx).Filter(apis.ErrorLevel); err != nil {
		errs = append(errs, fmt.Errorf("webhook: %w", err))
	}
	errs = append(errs, pod(service))
	return service, errors.Join(errs...)
}

// pod is what Kubernetes' own validation of a pod has and Knative's webhook has
// not (pkg/apis/core/validation in k8s.io/kubernetes, which is no library).
func pod(service *servingv1.Service) error {
	var errs []error
	meta := service.Spec.Template.ObjectMeta
	for key, value := range meta.Labels {
		errs = append(errs, invalid("label", key, validation.IsQualifiedName(key)), invalid("label", value, validation.IsValidLabelValue(value)))
	}
	for key := range meta.Annotations {
		errs = append(errs, invalid("annotation", key, validation.IsQualifiedName(strings.ToLower(key))))
	}
	container := service.Spec.Template.Spec.Containers[0]
	for _, env := range container.Env {
		errs = append(errs, invalid("variable", env.Name, validation.IsEnvVarName(env.Name)))
	}
	if sc := container.SecurityContext; sc.RunAsGroup != nil && sc.RunAsUser == nil {
		errs = append(errs, errors.New("runAsGroup without runAsUser"))
	}
	for _, m := range container.VolumeMounts {
		if strings.Contains(m.MountPath, ":") || filepath.IsAbs(m.SubPath) {
			errs = append(errs, fmt.Errorf("mount %+v", m))
		}
	}
	for _, list := range []corev1.ResourceList{container.Resources.Limits, container.Resources.Requests} {
		for name, q := range list {
			if q.Sign() <= 0 {
				errs = append(errs, fmt.Errorf("%s is %s", name, &q))
			}
		}
	}
	return errors.Join(errs...)
}

// references tells of what a Service names and nothing in the stream is.
func (s *stream) references(service *servingv1.Service, missing string) error {
	var errs []error
	for _, from := range service.Spec.Template.Spec.Containers[0].EnvFrom {
		if name := from.ConfigMapRef.Name; s.configMaps[name] == nil && !strings.Contains(missing, "the ConfigMap "+name+" is missing") {
			errs = append(errs, fmt.Errorf("there is no ConfigMap %s", name))
		}
	}
	for _, env := range service.Spec.Template.Spec.Containers[0].Env {
		if env.ValueFrom != nil && !strings.Contains(missing, "the Secret "+env.ValueFrom.SecretKeyRef.Name+" has to be made") {
			errs = append(errs, fmt.Errorf("nobody makes the Secret %s", env.ValueFrom.SecretKeyRef.Name))
		}
	}
	for _, v := range service.Spec.Template.Spec.Volumes {
		if c := v.PersistentVolumeClaim; c != nil && s.claims[c.ClaimName] == nil {
			errs = append(errs, fmt.Errorf("there is no claim %s", c.ClaimName))
		}
		if v.Secret != nil && !strings.Contains(missing, "the Secret "+v.Secret.SecretName+" has to be made") {
			errs = append(errs, fmt.Errorf("nobody makes the Secret %s", v.Secret.SecretName))
		}
	}
	return errors.Join(errs...)
}

func named(kind, name string) error { return invalid(kind, name, validation.IsDNS1123Subdomain(name)) }

func invalid(what, value string, problems []string) error {
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%s %q: %s", what, value, strings.Join(problems, ", "))
}
