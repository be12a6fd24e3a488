# Who is told when: a run failed, a run takes too long, the check failed, money was spent.

resource "google_monitoring_notification_channel" "email" {
  display_name = "${var.name} alerts"
  type         = "email"
  labels       = { email_address = var.alert_email }

  depends_on = [google_project_service.needed]
}

locals {
  # Dataflow adds a suffix to no job's name, but a flex template may be launched by hand under another.
  of_our_jobs = "resource.type=\"dataflow_job\" AND resource.labels.job_name=starts_with(\"${var.name}\")"
}

resource "google_monitoring_alert_policy" "failed_run" {
  display_name          = "${var.name}: a run failed"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = "Dataflow calls the job failed"
    condition_threshold {
      filter          = "metric.type=\"dataflow.googleapis.com/job/is_failed\" AND ${local.of_our_jobs}"
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  conditions {
    display_name = "the check before a run failed"
    condition_threshold {
      filter          = "metric.type=\"run.googleapis.com/job/completed_execution_count\" AND metric.labels.result=\"failed\" AND resource.type=\"cloud_run_job\" AND resource.labels.job_name=\"${google_cloud_run_v2_job.check.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_DELTA"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Nothing was published, and nothing that was computed is lost: `earshot status ${local.output}` says what is current, the job's log what went wrong. The next run takes up what is left."
  }
}

resource "google_monitoring_alert_policy" "not_asked" {
  display_name          = "${var.name}: the scheduler could not start the check"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = "Cloud Scheduler logged an error"
    condition_matched_log {
      filter = "resource.type=\"cloud_scheduler_job\" AND resource.labels.job_id=\"${google_cloud_scheduler_job.rerun.name}\" AND severity>=ERROR"
    }
  }

  alert_strategy {
    notification_rate_limit {
      period = "3600s"
    }
  }
}

resource "google_monitoring_alert_policy" "overlong_run" {
  display_name          = "${var.name}: a run takes longer than ${var.longest_run_hours} h"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = "a job's elapsed time"
    condition_threshold {
      filter          = "metric.type=\"dataflow.googleapis.com/job/elapsed_time\" AND ${local.of_our_jobs}"
      comparison      = "COMPARISON_GT"
      threshold_value = var.longest_run_hours * 3600
      duration        = "0s"
      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "GPU machines cost money while they wait. Counters of the job show which step holds it up (deploy/README.md). A job that is cancelled loses nothing that it computed."
  }
}

resource "google_billing_budget" "monthly" {
  count = var.billing_account == "" ? 0 : 1

  billing_account = var.billing_account
  display_name    = "${var.name} monthly"

  budget_filter {
    projects = ["projects/${var.project}"]
  }

  amount {
    specified_amount {
      currency_code = "USD"
      units         = tostring(floor(var.monthly_budget_dollars))
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.email.id]
  }
}
