{{/* The name of all objects: at most 40 characters, because the longest suffix has 22, and the name of a Job at most 63. */}}
{{- define "portcullis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "portcullis" (.Release.Name | trunc 40) -}}
{{- .Release.Name | trunc 40 | trimAll "-" -}}
{{- else -}}
{{- printf "%s-portcullis" (.Release.Name | trunc 29 | trimAll "-") -}}
{{- end -}}
{{- end -}}

{{- define "portcullis.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "portcullis.fullname" .) -}}
{{- end -}}

{{- define "portcullis.webhookName" -}}
{{- .Values.webhooks.name | default (include "portcullis.fullname" .) -}}
{{- end -}}

{{- define "portcullis.secretName" -}}
{{- .Values.certificate.secretName | default (printf "%s-tls" (include "portcullis.fullname" .)) -}}
{{- end -}}

{{- define "portcullis.configurationName" -}}
{{- include "portcullis.fullname" . }}-configuration
{{- end -}}

{{- define "portcullis.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The labels that select the pods of the server. The pods of the hook must not have them: the Service would select those too. */}}
{{- define "portcullis.selectorLabels" -}}
app.kubernetes.io/name: portcullis
{{- end -}}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selectorLabels" . }}
{{ include "portcullis.releaseLabels" . }}
{{- end -}}

{{- define "portcullis.releaseLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | quote }}
{{- end -}}

{{/* The labels of the pods that scrape metrics, and of the cluster DNS. */}}
{{- define "portcullis.prometheusLabels" -}}
{{- .Values.networkPolicy.prometheus.podLabels | default (dict "app.kubernetes.io/name" "prometheus") | toYaml -}}
{{- end -}}

{{- define "portcullis.dnsLabels" -}}
{{- .Values.networkPolicy.dns.podLabels | default (dict "k8s-app" "kube-dns") | toYaml -}}
{{- end -}}

{{/* The configuration file. */}}
{{- define "portcullis.configuration" -}}
{{- $head := dict "apiVersion" "portcullis.dev/v1alpha1" "kind" "Configuration" -}}
{{- if ne .Values.preset "enforce" -}}
{{- $_ := set $head "preset" .Values.preset -}}
{{- end -}}
{{- $account := include "portcullis.serviceAccountName" . -}}
{{- if or (ne .Release.Namespace "portcullis-system") (ne $account "portcullis") -}}
{{- $_ := set $head "installation" (dict "namespace" .Release.Namespace "serviceAccount" $account) -}}
{{- end -}}
{{- toYaml (merge $head .Values.configuration) -}}
{{- end -}}

{{/* The pairs of values that the schema cannot express. */}}
{{- define "portcullis.check" -}}
{{- if and (eq .Values.webhooks.mode "manage") (ne .Values.certificate.source "builtin") -}}
{{- fail (printf "webhooks.mode: manage requires certificate.source: builtin, not %s; set webhooks.mode: report" .Values.certificate.source) -}}
{{- end -}}
{{- $name := include "portcullis.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "release name %s: a Service cannot be named %s (expected lower-case letters, digits and hyphens, starting with a letter); set fullnameOverride" .Release.Name $name) -}}
{{- end -}}
{{- if eq (int .Values.service.port) 8080 -}}
{{- fail "service.port: 8080 is the port of the metrics in the same Service; choose another one" -}}
{{- end -}}
{{- range $field := list "preset" "installation" "apiVersion" "kind" -}}
{{- if hasKey $.Values.configuration $field -}}
{{- fail (printf "configuration.%s is set by the chart; remove it%s" $field (eq $field "preset" | ternary " and set the value preset" "")) -}}
{{- end -}}
{{- end -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int (add .Values.stopAfterSeconds 20)) -}}
{{- fail (printf "terminationGracePeriodSeconds: %v is less than stopAfterSeconds plus 20 s for requests in flight (%v)" .Values.terminationGracePeriodSeconds (add .Values.stopAfterSeconds 20)) -}}
{{- end -}}
{{- end -}}
