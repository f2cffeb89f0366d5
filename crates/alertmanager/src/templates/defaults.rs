//! The definitions that come with it, under the names that people's own templates use and
//! replace. What they print is what Alertmanager's print; mail looks plainer.

pub(super) const TEXTS: &str = r##"
{{- define "__alertmanager" }}Alertmanager{{ end -}}
{{- define "__alertmanagerURL" }}{{ .ExternalURL }}/#/alerts?receiver={{ .Receiver | urlquery }}{{ end -}}
{{- define "__description" }}{{ end -}}

{{- define "__other_labels" }}
  {{- if gt (len .CommonLabels) (len .GroupLabels) }}(
    {{- with .CommonLabels.Remove .GroupLabels.Names }}{{ .Values | join " " }}{{ end -}}
  ){{ end }}
{{- end -}}
{{- define "__subject" -}}
  [{{ .Status | toUpper }}{{ if eq .Status "firing" }}:{{ len .Alerts.Firing }}{{ end }}] {{ .GroupLabels.SortedPairs.Values | join " " }} {{ template "__other_labels" . }}
{{- end -}}
{{- define "__annotations" }}{{ .CommonAnnotations.SortedPairs.Values | join " " }}{{ end -}}

{{- define "__text_pairs" }}{{ range .SortedPairs }} - {{ .Name }} = {{ .Value }}
{{ end }}{{ end -}}
{{- define "__text_alert_list" }}{{ range . }}Labels:
{{ template "__text_pairs" .Labels }}Annotations:
{{ template "__text_pairs" .Annotations }}Source: {{ .GeneratorURL }}
{{ end }}{{ end -}}

{{- define "__markdown_pairs" }}{{ range .SortedPairs }}  - {{ .Name }} = {{ .Value }}
{{ end }}{{ end -}}
{{- define "__text_alert_list_markdown" }}{{ range . }}
Labels:
{{ template "__markdown_pairs" .Labels }}
Annotations:
{{ template "__markdown_pairs" .Annotations }}
Source: {{ .GeneratorURL }}
{{ end }}
{{ end -}}

{{- define "__alerts_tight" }}
  {{- with .Alerts.Firing }}Alerts Firing:
{{ template "__text_alert_list" . }}{{ end }}
{{ with .Alerts.Resolved }}Alerts Resolved:
{{ template "__text_alert_list" . }}{{ end }}
{{- end -}}
{{- define "__alerts_spaced" }}
  {{- with .Alerts.Firing }}
Alerts Firing:
{{ template "__text_alert_list" . }}
{{ end }}
{{ with .Alerts.Resolved }}
Alerts Resolved:
{{ template "__text_alert_list" . }}
{{ end }}
{{ end -}}
{{- define "__alerts_markdown" }}
{{ with .Alerts.Firing }}
# Alerts Firing:
{{ template "__text_alert_list_markdown" . }}
{{ end }}
{{ with .Alerts.Resolved }}
# Alerts Resolved:
{{ template "__text_alert_list_markdown" . }}
{{ end }}
{{ end -}}
{{- define "__alerts_plain" }}
{{ template "__alerts_spaced" . }}{{ end -}}
{{- define "__alerts_annotated" }}{{ template "__annotations" . }}
{{ template "__alerts_spaced" . }}{{ end -}}
{{- define "__alerts_annotated_tight" }}{{ template "__annotations" . }}
{{ template "__alerts_tight" . }}{{ end -}}
{{- define "__color" }}{{ if eq .Status "firing" }}danger{{ else }}good{{ end }}{{ end -}}

{{- define "slack.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "slack.default.username" }}{{ template "__alertmanager" . }}{{ end -}}
{{- define "slack.default.titlelink" }}{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "slack.default.fallback" }}{{ template "slack.default.title" . }} | {{ template "slack.default.titlelink" . }}{{ end -}}
{{- define "slack.default.callbackid" }}{{ end -}}
{{- define "slack.default.pretext" }}{{ end -}}
{{- define "slack.default.iconemoji" }}{{ end -}}
{{- define "slack.default.iconurl" }}{{ end -}}
{{- define "slack.default.text" }}{{ end -}}
{{- define "slack.default.footer" }}{{ end -}}
{{- define "slack.default.color" }}{{ template "__color" . }}{{ end -}}

{{- define "pagerduty.default.description" }}{{ template "__subject" . }}{{ end -}}
{{- define "pagerduty.default.client" }}{{ template "__alertmanager" . }}{{ end -}}
{{- define "pagerduty.default.clientURL" }}{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "pagerduty.default.instances" }}{{ template "__text_alert_list" . }}{{ end -}}

{{- define "opsgenie.default.message" }}{{ template "__subject" . }}{{ end -}}
{{- define "opsgenie.default.description" }}{{ template "__alerts_annotated_tight" . }}{{ end -}}
{{- define "opsgenie.default.source" }}{{ template "__alertmanagerURL" . }}{{ end -}}

{{- define "wechat.default.message" }}{{ template "__subject" . }}
{{ template "__alerts_annotated_tight" . }}
AlertmanagerUrl:
{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "wechat.default.to_user" }}{{ end -}}
{{- define "wechat.default.to_party" }}{{ end -}}
{{- define "wechat.default.to_tag" }}{{ end -}}
{{- define "wechat.default.agent_id" }}{{ end -}}

{{- define "victorops.default.state_message" }}{{ template "__alerts_annotated_tight" . }}{{ end -}}
{{- define "victorops.default.entity_display_name" }}{{ template "__subject" . }}{{ end -}}
{{- define "victorops.default.monitoring_tool" }}{{ template "__alertmanager" . }}{{ end -}}

{{- define "pushover.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "pushover.default.message" }}{{ template "__alerts_annotated" . }}{{ end -}}
{{- define "pushover.default.url" }}{{ template "__alertmanagerURL" . }}{{ end -}}

{{- define "sns.default.subject" }}{{ template "__subject" . }}{{ end -}}
{{- define "sns.default.message" }}{{ template "__alerts_annotated" . }}{{ end -}}

{{- define "telegram.default.message" }}{{ template "__alerts_plain" . }}{{ end -}}

{{- define "discord.default.content" }}{{ end -}}
{{- define "discord.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "discord.default.message" }}{{ template "__alerts_plain" . }}{{ end -}}

{{- define "webex.default.message" }}{{ template "__alerts_annotated" . }}{{ end -}}

{{- define "msteams.default.summary" }}{{ template "__subject" . }}{{ end -}}
{{- define "msteams.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "msteams.default.text" }}{{ template "__alerts_markdown" . }}{{ end -}}
{{- define "msteamsv2.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "msteamsv2.default.text" }}{{ template "__alerts_markdown" . }}{{ end -}}

{{- define "jira.default.summary" }}{{ template "__subject" . }}{{ end -}}
{{- define "jira.default.description" }}{{ template "__alerts_markdown" . }}{{ end -}}
{{- define "__jira_priority" -}}
  {{- $rank := 0 -}}
  {{- range . -}}
    {{- $severity := .Labels.severity -}}
    {{- if eq $severity "critical" }}{{ $rank = 3 }}
    {{- else if and (eq $severity "warning") (lt $rank 2) }}{{ $rank = 2 }}
    {{- else if and (eq $severity "info") (lt $rank 1) }}{{ $rank = 1 }}
    {{- end -}}
  {{- end -}}
  {{- if eq $rank 3 }}High{{ else if eq $rank 2 }}Medium{{ else if eq $rank 1 }}Low{{ end -}}
{{- end -}}
{{- define "jira.default.priority" -}}
  {{- $ranked := false -}}
  {{- range .Alerts.Firing }}{{ if match "^(critical|warning|info)$" .Labels.severity }}{{ $ranked = true }}{{ end }}{{ end -}}
  {{- if $ranked }}{{ template "__jira_priority" .Alerts.Firing }}{{ else }}{{ template "__jira_priority" .Alerts.Resolved }}{{ end -}}
{{- end -}}

{{- define "rocketchat.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "rocketchat.default.alias" }}{{ template "__alertmanager" . }}{{ end -}}
{{- define "rocketchat.default.titlelink" }}{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "rocketchat.default.emoji" }}{{ end -}}
{{- define "rocketchat.default.iconurl" }}{{ end -}}
{{- define "rocketchat.default.text" }}{{ end -}}

{{- define "mattermost.default.color" }}{{ template "__color" . }}{{ end -}}
{{- define "mattermost.default.username" }}{{ template "__alertmanager" . }}{{ end -}}
{{- define "mattermost.default.title" }}{{ template "__subject" . }}{{ end -}}
{{- define "mattermost.default.titlelink" }}{{ template "__alertmanagerURL" . }}{{ end -}}
{{- define "mattermost.default.fallback" }}{{ template "mattermost.default.title" . }} | {{ template "mattermost.default.titlelink" . }}{{ end -}}
{{- define "mattermost.default.text" }}{{ template "__alerts_markdown" . }}{{ end -}}
"##;

pub(super) const EMAIL: &str = r##"
{{- define "email.default.subject" }}{{ template "__subject" . }}{{ end -}}
{{- define "__email_alerts" }}
{{ range . }}<div style="margin: 0 0 16px; padding: 8px 12px; border-left: 3px solid #888">
<strong>Labels</strong><br>
{{ range .Labels.SortedPairs }}{{ .Name }} = {{ .Value }}<br>
{{ end }}{{ if gt (len .Annotations) 0 }}<strong>Annotations</strong><br>
{{ range .Annotations.SortedPairs }}{{ .Name }} = {{ .Value }}<br>
{{ end }}{{ end }}<a href="{{ .GeneratorURL }}">Source</a>
</div>
{{ end }}{{ end -}}
{{- define "email.default.html" -}}
<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ template "__subject" . }}</title>
</head>
<body style="margin: 0; padding: 24px; background: #f4f4f4; font: 14px/1.4 sans-serif; color: #222">
<div style="max-width: 600px; margin: 0 auto; background: #fff">
<div style="padding: 16px; color: #fff; background: {{ if gt (len .Alerts.Firing) 0 }}#b02a37{{ else }}#2e7d4f{{ end }}">
{{ .Alerts | len }} alert{{ if gt (len .Alerts) 1 }}s{{ end }} for {{ range .GroupLabels.SortedPairs }}
{{ .Name }}={{ .Value }}
{{ end }}
</div>
<div style="padding: 16px">
<p><a href="{{ template "__alertmanagerURL" . }}">View in {{ template "__alertmanager" . }}</a></p>
{{ if gt (len .Alerts.Firing) 0 }}<p><strong>[{{ .Alerts.Firing | len }}] Firing</strong></p>
{{ template "__email_alerts" .Alerts.Firing }}{{ end }}
{{- if gt (len .Alerts.Resolved) 0 }}<p><strong>[{{ .Alerts.Resolved | len }}] Resolved</strong></p>
{{ template "__email_alerts" .Alerts.Resolved }}{{ end -}}
<p><a href="{{ .ExternalURL }}">Sent by {{ template "__alertmanager" . }}</a></p>
</div>
</div>
</body>
</html>
{{ end -}}
"##;
