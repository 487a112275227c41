// Package manifests checks packaging/kubernetes: strictly against Kubernetes'
// own types, by Kubernetes' own pod security standard, and for what the parts say
// of each other.
package manifests

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// The namespace of everything.
const namespace = "latchkey"

// A serviceMonitor has the fields that we use of the Prometheus Operator's
// (https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.ServiceMonitor).
type serviceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		JobLabel  string               `json:"jobLabel"`
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port      string `json:"port"`
			Scheme    string `json:"scheme"`
			Interval  string `json:"interval"`
			TLSConfig struct {
				ServerName string `json:"serverName"`
			} `json:"tlsConfig"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// A workload is what makes pods.
type workload struct {
	name     string
	replicas int32
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
}

func (w workload) String() string { return w.name }

// decode decodes every object of a file. A field that its type does not have, or
// that is there twice, is an error.
func decode(file []byte) ([]metav1.Object, error) {
	var objects []metav1.Object
	for r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(file))); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if doc, err = yaml.YAMLToJSONStrict(doc); err != nil {
			return nil, err
		}
		var kind metav1.TypeMeta
		if err := json.UnmarshalCaseSensitivePreserveInts(doc, &kind); err != nil {
			return nil, err
		}
		var object metav1.Object
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
			object = new(serviceMonitor)
		default:
			return nil, errors.New("a " + kind.Kind + " of " + kind.APIVersion + " is not known here")
		}
		strict, err := json.UnmarshalStrict(doc, object)
		if err := errors.Join(append(strict, err)...); err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}

func TestManifests(t *testing.T) {
	files, err := filepath.Glob("../../packaging/kubernetes/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var (
		objects   []metav1.Object
		workloads []workload
		services  []*corev1.Service
	)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found, err := decode(b)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
		objects = append(objects, found...)
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			workloads = append(workloads, workload{o.Name, *o.Spec.Replicas, o.Spec.Selector, o.Spec.Template})
		case *appsv1.StatefulSet:
			workloads = append(workloads, workload{o.Name, *o.Spec.Replicas, o.Spec.Selector, o.Spec.Template})
			for _, claim := range o.Spec.VolumeClaimTemplates {
				source := corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name}}
				p := &workloads[len(workloads)-1].pod.Spec
				p.Volumes = append(p.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: source})
			}
		case *corev1.Service:
			services = append(services, o)
		}
	}
	guarded := map[string]bool{} // workloads whose pods have a network policy
	for _, o := range objects {
		if _, ok := o.(*corev1.Namespace); !ok && o.GetNamespace() != namespace {
			t.Errorf("%s is in the namespace %q; want %s", o.GetName(), o.GetNamespace(), namespace)
		}
		switch o := o.(type) {
		case *corev1.Namespace:
			if level := o.Labels[api.EnforceLevelLabel]; o.Name != namespace || level != string(api.LevelRestricted) {
				t.Errorf("the namespace %s enforces %q; want %s", o.Name, level, api.LevelRestricted)
			}
		case *corev1.Service:
			chosen := selected(t, workloads, &metav1.LabelSelector{MatchLabels: o.Spec.Selector})
			for _, port := range o.Spec.Ports {
				if len(chosen) != 1 || !hasPort(chosen[0].pod, port.TargetPort) {
					t.Errorf("service %s: no pod has the port %s", o.Name, &port.TargetPort)
				}
			}
		case *policyv1.PodDisruptionBudget:
			// With as many as there are, no node could ever be drained.
			if chosen := selected(t, workloads, o.Spec.Selector); len(chosen) != 1 || o.Spec.MinAvailable.IntVal >= chosen[0].replicas {
				t.Errorf("budget %s: wants %s of the pods of %v", o.Name, o.Spec.MinAvailable, chosen)
			}
		case *networkingv1.NetworkPolicy:
			chosen := selected(t, workloads, &o.Spec.PodSelector)
			if len(chosen) != 1 || !slices.Contains(o.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) || !slices.Contains(o.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
				t.Errorf("policy %s: is %v for the pods of %v; want both ways for one", o.Name, o.Spec.PolicyTypes, chosen)
				continue
			}
			guarded[chosen[0].name] = true
			for _, in := range o.Spec.Ingress {
				for _, port := range in.Ports {
					if !hasPort(chosen[0].pod, *port.Port) {
						t.Errorf("policy %s: no pod has the port %s", o.Name, port.Port)
					}
				}
				for _, from := range in.From {
					if len(selected(t, workloads, from.PodSelector)) == 0 {
						t.Errorf("policy %s: lets pods in that there are not: %v", o.Name, from.PodSelector)
					}
				}
			}
		case *serviceMonitor:
			selector, err := metav1.LabelSelectorAsSelector(&o.Spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range o.Spec.Endpoints {
				if !slices.ContainsFunc(services, func(s *corev1.Service) bool {
					// The rules take the job for granted.
					return selector.Matches(labels.Set(s.Labels)) && s.Labels[o.Spec.JobLabel] == "latchkey" &&
						slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port })
				}) {
					t.Errorf("monitor %s: no service has the port %s", o.Name, e.Port)
				}
			}
		}
	}
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			if chosen := selected(t, []workload{w}, w.selector); len(chosen) != 1 {
				t.Errorf("it does not select its own pods: %v", w.selector)
			}
			if !guarded[w.name] {
				t.Error("no network policy is for its pods")
			}
			checkPod(t, w.pod)
		})
	}
}

// checkPod has Kubernetes' own code judge whether a pod is restricted
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/), and
// looks for what it needs besides.
func checkPod(t *testing.T, p corev1.PodTemplateSpec) {
	t.Helper()
	standard, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	if all := policy.AggregateCheckResults(standard.EvaluatePod(restricted, &p.ObjectMeta, &p.Spec)); !all.Allowed {
		t.Errorf("it is not restricted: %s", all.ForbiddenDetail())
	}
	if p.Spec.AutomountServiceAccountToken == nil || *p.Spec.AutomountServiceAccountToken {
		t.Error("it gets a token for Kubernetes, which it asks nothing")
	}
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range p.Spec.Volumes {
		if v.Secret != nil && !strings.Contains(string(docs), " "+v.Secret.SecretName+" ") {
			t.Errorf("docs/operations.md does not say how to make the secret %s", v.Secret.SecretName)
		}
	}
	for _, c := range p.Spec.Containers {
		r := c.Resources
		if r.Requests.Cpu().IsZero() || r.Requests.Memory().IsZero() || r.Limits.Memory().Cmp(*r.Requests.Memory()) < 0 {
			t.Errorf("container %s has the resources %v; want requests, and a limit of memory", c.Name, r)
		}
		for _, m := range c.VolumeMounts {
			if !slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name }) {
				t.Errorf("container %s mounts %s, which there is not", c.Name, m.Name)
			}
			if m.SubPath != "" {
				t.Errorf("container %s mounts %s with subPath, so that it never changes", c.Name, m.Name)
			}
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if probe != nil && probe.HTTPGet != nil && !hasPort(p, probe.HTTPGet.Port) {
				t.Errorf("a probe asks the port %s, which there is not", &probe.HTTPGet.Port)
			}
		}
		if c.ReadinessProbe == nil {
			t.Errorf("container %s is never known to be ready", c.Name)
		}
		if c.Name == "latchkey" {
			checkServer(t, p.Spec, c)
		}
	}
}

// checkServer looks for what the server needs.
func checkServer(t *testing.T, p corev1.PodSpec, c corev1.Container) {
	t.Helper()
	if p.EnableServiceLinks == nil || *p.EnableServiceLinks {
		t.Error("with service links the server finds variables that it does not know")
	}
	if c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
		t.Error("it may write to its image")
	}
	if c.StartupProbe == nil || c.LivenessProbe == nil {
		t.Fatalf("it has the probes %v and %v; want one for its start and one for its life", c.StartupProbe, c.LivenessProbe)
	}
	// Without its database it is not ready; to kill it would not help.
	if live, ready := c.LivenessProbe.HTTPGet.Path, c.ReadinessProbe.HTTPGet.Path; live != "/healthz" || ready != "/readyz" {
		t.Errorf("it is alive by %s and ready by %s; want /healthz and /readyz", live, ready)
	}
	// Ten seconds are for requests that are under way.
	if sleep := c.Lifecycle.PreStop.Sleep.Seconds; *p.TerminationGracePeriodSeconds <= sleep+10 {
		t.Errorf("it is killed after %d s, of which it sleeps %d", *p.TerminationGracePeriodSeconds, sleep)
	}
}

// selected returns the workloads whose pods have the labels.
func selected(t *testing.T, all []workload, by *metav1.LabelSelector) []workload {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(by)
	if err != nil {
		t.Fatal(err)
	}
	var chosen []workload
	for _, w := range all {
		if !selector.Empty() && selector.Matches(labels.Set(w.pod.Labels)) {
			chosen = append(chosen, w)
		}
	}
	return chosen
}

// hasPort is whether a pod has a port, which we always name.
func hasPort(p corev1.PodTemplateSpec, port intstr.IntOrString) bool {
	return slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
		return slices.ContainsFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal })
	})
}

// TestDecode has decode refuse what Kubernetes would refuse or drop.
func TestDecode(t *testing.T) {
	for _, file := range []string{
		"apiVersion: v1\nkind: Service\nspec:\n  selectors: {a: b}\n",
		"apiVersion: v1\nkind: Service\nspec:\n  Selector: {a: b}\n",
		"apiVersion: v1\nkind: Service\nspec: {type: ClusterIP, type: NodePort}\n",
		"apiVersion: v1\nkind: Service\n---\napiVersion: v1\nkind: Sevrice\n",
		"apiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: two\n",
		"apiVersion: v1\nkind: Service\n--- \napiVersion: v1\nkind: Service\nspeck: {}\n",
	} {
		if objects, err := decode([]byte(file)); err == nil {
			t.Errorf("decoded %v from:\n%s", objects, file)
		}
	}
}
