{{- define "portcullis.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains "portcullis" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-portcullis" (.Release.Name | trunc 40 | trimSuffix "-") -}}
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
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
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
{{- range $field := list "preset" "installation" "apiVersion" "kind" -}}
{{- if hasKey $.Values.configuration $field -}}
{{- fail (printf "configuration.%s is set by the chart; remove it%s" $field (eq $field "preset" | ternary " and set the value preset" "")) -}}
{{- end -}}
{{- end -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int (add .Values.stopAfterSeconds 20)) -}}
{{- fail (printf "terminationGracePeriodSeconds: %v is less than stopAfterSeconds plus 20 s for requests in flight (%v)" .Values.terminationGracePeriodSeconds (add .Values.stopAfterSeconds 20)) -}}
{{- end -}}
{{- end -}}
