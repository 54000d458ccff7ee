{{/* Name of everything in a release; the release's own where that says softprompt already. */}}
{{- define "softprompt.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 47 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 47 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{/* Where KFP runs and their Ray clusters live. */}}
{{- define "softprompt.pipelineNamespace" -}}
{{ .Values.pipeline.namespace | default .Release.Namespace }}
{{- end -}}

{{/* Where the reconciler and its signing key live. */}}
{{- define "softprompt.reconcilerNamespace" -}}
{{ .Values.reconciler.namespace | default .Release.Namespace }}
{{- end -}}

{{/* What a Deployment of ours selects: dict root, component. Never changes, for it cannot be changed in place. */}}
{{- define "softprompt.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Of every object: dict root, component. */}}
{{- define "softprompt.labels" -}}
{{ include "softprompt.selectorLabels" . }}
app.kubernetes.io/part-of: softprompt
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Of every pod: dict root, component, duty. Network policies go by the duty. */}}
{{- define "softprompt.podLabels" -}}
{{ include "softprompt.labels" . }}
softprompt.dev/duty: {{ .duty }}
{{- end -}}

{{/* Name of the ServiceAccount of a duty: dict root, duty. */}}
{{- define "softprompt.serviceAccountName" -}}
{{- $account := get .root.Values.serviceAccounts .duty -}}
{{- if $account.name -}}
{{ $account.name }}
{{- else if not $account.create -}}
default
{{- else if has .duty (list "pipeline" "trainer") -}}
softprompt-{{ .duty }}
{{- else if eq .duty "reader" -}}
{{ include "softprompt.fullname" .root }}
{{- else -}}
{{ include "softprompt.fullname" .root }}-{{ .duty }}
{{- end -}}
{{- end -}}

{{/* dict root, image. */}}
{{- define "softprompt.image" -}}
{{- $common := .root.Values.image -}}
{{- with $common.registry }}{{ . }}/{{ end -}}
{{ .image.repository }}
{{- if .image.digest -}}
@{{ .image.digest }}
{{- else -}}
:{{ .image.tag | default $common.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "softprompt.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Where pods go: a component's nodeSelector, tolerations, affinity, priorityClassName, runtimeClassName. */}}
{{- define "softprompt.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Affinity that puts the pods of one part into different zones, where that can be had. */}}
{{- define "softprompt.apartByZone" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: topology.kubernetes.io/zone
        labelSelector:
          matchLabels:
            {{- include "softprompt.selectorLabels" . | nindent 12 }}
{{- end -}}

{{- define "softprompt.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "softprompt.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The object store, as one duty sees it: dict root, credentials. */}}
{{- define "softprompt.storeEnvironment" -}}
- name: SOFTPROMPT_STORE
  value: {{ required "store.uri: say where the channel lies, s3://BUCKET or s3://BUCKET/PREFIX" .root.Values.store.uri | quote }}
{{ include "softprompt.s3Environment" . }}
{{- end -}}

{{- define "softprompt.s3Environment" -}}
{{- with .root.Values.store.endpoint -}}
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{ end -}}
- name: AWS_DEFAULT_REGION
  value: {{ .root.Values.store.region | quote }}
{{- with .credentials }}
{{- if .secret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .accessKeyIdKey | quote }}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .secretAccessKeyKey | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A component's own variables, name -> value. */}}
{{- define "softprompt.extraEnvironment" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Name of the object that holds the trust root. */}}
{{- define "softprompt.trustRootName" -}}
{{- if .Values.trustRoot.content -}}
{{ .Values.trustRoot.name | default "softprompt-trust-root" }}
{{- else -}}
{{ required "trustRoot.name: name the existing object that holds the trust root, or give its content" .Values.trustRoot.name }}
{{- end -}}
{{- end -}}

{{- define "softprompt.trustRootVolume" -}}
- name: trust
  {{- if and (eq .Values.trustRoot.kind "Secret") (not .Values.trustRoot.content) }}
  secret:
    secretName: {{ include "softprompt.trustRootName" . | quote }}
  {{- else }}
  configMap:
    name: {{ include "softprompt.trustRootName" . | quote }}
  {{- end }}
    items:
      - key: {{ .Values.trustRoot.key | quote }}
        path: root.json
{{- end -}}

{{/* Where MLflow is: the chart's own, or an address, or nothing. */}}
{{- define "softprompt.registryAddress" -}}
{{- if .Values.mlflow.enabled -}}
http://{{ include "softprompt.fullname" . }}-mlflow.{{ .Release.Namespace }}.svc:{{ .Values.mlflow.service.port }}
{{- else -}}
{{ .Values.mlflow.address }}
{{- end -}}
{{- end -}}

{{/* The pods of a duty as a NetworkPolicy selects them: dict root, duty. Those of the chart's own Deployments are told from other releases'. */}}
{{- define "softprompt.dutySelector" -}}
matchLabels:
  app.kubernetes.io/part-of: softprompt
  softprompt.dev/duty: {{ .duty }}
  {{- if not (has .duty (list "pipeline" "trainer")) }}
  app.kubernetes.io/instance: {{ .root.Release.Name }}
  {{- end }}
{{- end -}}

{{/* The pods of a duty as a NetworkPolicy peer: dict root, duty, namespace. */}}
{{- define "softprompt.peer" -}}
namespaceSelector:
  matchLabels:
    kubernetes.io/metadata.name: {{ .namespace }}
podSelector:
  {{- include "softprompt.dutySelector" . | nindent 2 }}
{{- end -}}

{{/* What every NetworkPolicy begins with: dict root, duty, namespace, name. */}}
{{- define "softprompt.policyHead" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ include "softprompt.fullname" .root }}-{{ .duty }}-{{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "softprompt.labels" (dict "root" .root "component" .duty) | nindent 4 }}
spec:
  podSelector:
    {{- include "softprompt.dutySelector" . | nindent 4 }}
{{- end -}}

{{/* dict ports, udp; no ports are all. */}}
{{- define "softprompt.policyPorts" -}}
{{- with .ports -}}
ports:
  {{- range . }}
  - port: {{ . }}
    protocol: TCP
  {{- if $.udp }}
  - port: {{ . }}
    protocol: UDP
  {{- end }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/* Combinations of values that would not work, or not safely. */}}
{{- define "softprompt.check" -}}
{{- if and .Values.reconciler.enabled .Values.pipeline.enabled (eq (include "softprompt.reconcilerNamespace" .) (include "softprompt.pipelineNamespace" .)) }}
{{- fail (printf "reconciler.namespace and pipeline.namespace are both %s: whoever may create RayJobs in a namespace may mount every Secret of it, so the steps of a run could sign. Give the two different namespaces." (include "softprompt.pipelineNamespace" .)) }}
{{- end }}
{{- end -}}
