// Package manifests checks packaging/kubernetes: strictly against Kubernetes'
// own types, for what the security of the pods rests on, and for what their
// parts say of each other.
package manifests

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// read decodes every object of a file. A field that its type does not have is an
// error; of types that are not Kubernetes' own, only the form is checked.
func read(t *testing.T, file string) []any {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var objects []any
	for doc := range bytes.SplitSeq(b, []byte("\n---\n")) {
		var kind struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var object any
		switch kind.APIVersion + " " + kind.Kind {
		case "v1 Namespace":
			object = new(corev1.Namespace)
		case "v1 ServiceAccount":
			object = new(corev1.ServiceAccount)
		case "v1 Service":
			object = new(corev1.Service)
		case "apps/v1 Deployment":
			object = new(appsv1.Deployment)
		case "apps/v1 StatefulSet":
			object = new(appsv1.StatefulSet)
		case "policy/v1 PodDisruptionBudget":
			object = new(policyv1.PodDisruptionBudget)
		case "networking.k8s.io/v1 NetworkPolicy":
			object = new(networkingv1.NetworkPolicy)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			object = new(map[string]any)
		default:
			t.Errorf("%s has a %s of %s, which is not known here", file, kind.Kind, kind.APIVersion)
			continue
		}
		if err := yaml.UnmarshalStrict(doc, object); err != nil {
			t.Errorf("%s: %s: %v", file, kind.Kind, err)
		}
		objects = append(objects, object)
	}
	return objects
}

func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../../packaging/kubernetes/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		var pods []corev1.PodTemplateSpec
		var services []*corev1.Service
		for _, o := range read(t, file) {
			switch o := o.(type) {
			case *appsv1.Deployment:
				pods = append(pods, o.Spec.Template)
			case *appsv1.StatefulSet:
				pods = append(pods, o.Spec.Template)
			case *corev1.Service:
				services = append(services, o)
			}
		}
		for _, p := range pods {
			checkPod(t, filepath.Base(file), p)
		}
		for _, s := range services {
			for _, port := range s.Spec.Ports {
				if !slices.ContainsFunc(pods, func(p corev1.PodTemplateSpec) bool {
					return selects(s.Spec.Selector, p) && hasPort(p, port.TargetPort.StrVal)
				}) {
					t.Errorf("%s: service %s: no pod has the port %s", filepath.Base(file), s.Name, port.TargetPort.StrVal)
				}
			}
		}
	}
}

// checkPod looks for what the restricted standard for pods wants
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/), and
// for volumes that are mounted and not there.
func checkPod(t *testing.T, file string, p corev1.PodTemplateSpec) {
	t.Helper()
	s := p.Spec.SecurityContext
	if s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s: the pod is not restricted: %+v", file, s)
	}
	if links := p.Spec.EnableServiceLinks; strings.HasPrefix(p.Spec.Containers[0].Image, "latchkey:") && (links == nil || *links) {
		t.Errorf("%s: with service links the server finds variables that it does not know", file)
	}
	for _, c := range p.Spec.Containers {
		sc := c.SecurityContext
		if sc == nil || sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation || sc.Capabilities == nil || !slices.Contains(sc.Capabilities.Drop, "ALL") {
			t.Errorf("%s: container %s is not restricted: %+v", file, c.Name, sc)
		}
		for _, m := range c.VolumeMounts {
			known := slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) || m.Name == "data"
			if !known {
				t.Errorf("%s: container %s mounts %s, which there is not", file, c.Name, m.Name)
			}
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if probe != nil && probe.HTTPGet != nil && !hasPort(p, probe.HTTPGet.Port.StrVal) {
				t.Errorf("%s: a probe asks the port %s, which there is not", file, probe.HTTPGet.Port.StrVal)
			}
		}
	}
}

func selects(selector map[string]string, p corev1.PodTemplateSpec) bool {
	for k, v := range selector {
		if p.Labels[k] != v {
			return false
		}
	}
	return true
}

func hasPort(p corev1.PodTemplateSpec, name string) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
	})
}
