package knative

import (
	"io"

	"go.yaml.in/yaml/v3"
)

// The objects as they stand in YAML: https://knative.dev/docs/serving/reference/serving-api/
// and the Kubernetes API reference name and order their fields.

type service struct {
	APIVersion string      `yaml:"apiVersion"`
	Kind       string      `yaml:"kind"`
	Metadata   metadata    `yaml:"metadata"`
	Spec       serviceSpec `yaml:"spec"`
}

type metadata struct {
	Name        string            `yaml:"name,omitempty"`
	Labels      map[string]string `yaml:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations,omitempty"`
}

type serviceSpec struct {
	Template template `yaml:"template"`
}

type template struct {
	Metadata metadata     `yaml:"metadata"`
	Spec     revisionSpec `yaml:"spec"`
}

type revisionSpec struct {
	ContainerConcurrency int64       `yaml:"containerConcurrency,omitempty"`
	TimeoutSeconds       int64       `yaml:"timeoutSeconds,omitempty"`
	Containers           []container `yaml:"containers"`
	Volumes              []volume    `yaml:"volumes,omitempty"`
}

type container struct {
	Image           string          `yaml:"image"`
	ImagePullPolicy string          `yaml:"imagePullPolicy,omitempty"`
	Command         []string        `yaml:"command,omitempty"`
	Args            []string        `yaml:"args,omitempty"`
	WorkingDir      string          `yaml:"workingDir,omitempty"`
	Ports           []containerPort `yaml:"ports"`
	EnvFrom         []envFrom       `yaml:"envFrom,omitempty"`
	Env             []envVar        `yaml:"env,omitempty"`
	Resources       resources       `yaml:"resources,omitempty"`
	SecurityContext securityContext `yaml:"securityContext"`
	StartupProbe    *probe          `yaml:"startupProbe,omitempty"`
	ReadinessProbe  *probe          `yaml:"readinessProbe,omitempty"`
	LivenessProbe   *probe          `yaml:"livenessProbe,omitempty"`
	VolumeMounts    []volumeMount   `yaml:"volumeMounts,omitempty"`
}

type containerPort struct {
	ContainerPort uint16 `yaml:"containerPort"`
}

type envFrom struct {
	ConfigMapRef reference `yaml:"configMapRef"`
}

type reference struct {
	Name string `yaml:"name"`
}

type envVar struct {
	Name      string     `yaml:"name"`
	Value     string     `yaml:"value,omitempty"`
	ValueFrom *envSource `yaml:"valueFrom,omitempty"`
}

type envSource struct {
	SecretKeyRef secretKey `yaml:"secretKeyRef"`
}

type secretKey struct {
	Name string `yaml:"name"`
	Key  string `yaml:"key"`
}

type resources struct {
	Requests map[string]string `yaml:"requests,omitempty"`
	Limits   map[string]string `yaml:"limits,omitempty"`
}

type securityContext struct {
	RunAsUser                *int64          `yaml:"runAsUser,omitempty"`
	RunAsGroup               *int64          `yaml:"runAsGroup,omitempty"`
	ReadOnlyRootFilesystem   bool            `yaml:"readOnlyRootFilesystem,omitempty"`
	AllowPrivilegeEscalation *bool           `yaml:"allowPrivilegeEscalation,omitempty"`
	Capabilities             capabilities    `yaml:"capabilities,omitempty"`
	SeccompProfile           *seccompProfile `yaml:"seccompProfile,omitempty"`
}

type capabilities struct {
	Add  []string `yaml:"add,omitempty"`
	Drop []string `yaml:"drop,omitempty"`
}

type seccompProfile struct {
	Type string `yaml:"type"`
}

type probe struct {
	Exec                *execAction `yaml:"exec,omitempty"`
	HTTPGet             *httpGet    `yaml:"httpGet,omitempty"`
	InitialDelaySeconds int64       `yaml:"initialDelaySeconds,omitempty"`
	PeriodSeconds       int64       `yaml:"periodSeconds,omitempty"`
	TimeoutSeconds      int64       `yaml:"timeoutSeconds,omitempty"`
	FailureThreshold    int64       `yaml:"failureThreshold,omitempty"`
}

type execAction struct {
	Command []string `yaml:"command"`
}

type httpGet struct {
	Path string `yaml:"path"`
}

type volumeMount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
	SubPath   string `yaml:"subPath,omitempty"`
	ReadOnly  bool   `yaml:"readOnly,omitempty"`
}

type volume struct {
	Name                  string        `yaml:"name"`
	EmptyDir              *emptyDir     `yaml:"emptyDir,omitempty"`
	Secret                *secretVolume `yaml:"secret,omitempty"`
	PersistentVolumeClaim *claimVolume  `yaml:"persistentVolumeClaim,omitempty"`
}

type emptyDir struct {
	Medium    string `yaml:"medium,omitempty"`
	SizeLimit string `yaml:"sizeLimit,omitempty"`
}

type secretVolume struct {
	SecretName  string `yaml:"secretName"`
	DefaultMode int64  `yaml:"defaultMode"`
}

type claimVolume struct {
	ClaimName string `yaml:"claimName"`
	ReadOnly  bool   `yaml:"readOnly,omitempty"`
}

type configMap struct {
	APIVersion string            `yaml:"apiVersion"`
	Kind       string            `yaml:"kind"`
	Metadata   metadata          `yaml:"metadata"`
	Data       map[string]string `yaml:"data"`
}

type claim struct {
	APIVersion string    `yaml:"apiVersion"`
	Kind       string    `yaml:"kind"`
	Metadata   metadata  `yaml:"metadata"`
	Spec       claimSpec `yaml:"spec"`
}

type claimSpec struct {
	AccessModes []string  `yaml:"accessModes"`
	Resources   resources `yaml:"resources"`
}

// Write writes the exports as one stream of YAML documents, what a Service
// needs before it. A claim that several files share is written once.
func Write(w io.Writer, exports []Export) error {
	if len(exports) == 0 {
		return nil // the encoder takes no empty stream
	}
	encoder := yaml.NewEncoder(w)
	encoder.SetIndent(2)
	claimed := make(map[string]bool)
	for _, e := range exports {
		for _, c := range e.claims {
			if claimed[c.Metadata.Name] {
				continue
			}
			claimed[c.Metadata.Name] = true
			if err := encoder.Encode(c); err != nil {
				return err
			}
		}
		for _, c := range e.configMaps {
			if err := encoder.Encode(c); err != nil {
				return err
			}
		}
		if err := encoder.Encode(e.service); err != nil {
			return err
		}
	}
	return encoder.Close()
}
