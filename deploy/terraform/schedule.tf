# Scheduler → check → flex template. The check is a job of Cloud Run that lives for some seconds: it compares the
# current version's manifest with what a run would begin with, and launches the template only if the two differ.

locals {
  output   = "gs://${google_storage_bucket.dataset.name}/${var.output}"
  models   = "gs://${google_storage_bucket.dataset.name}/${var.models}"
  template = "gs://${google_storage_bucket.staging.name}/${var.template}"

  parameters = merge(
    {
      profile             = var.profile
      clips               = var.clips
      models              = local.models
      output              = local.output
      preset              = var.preset
      sdk_container_image = var.image
    },
    var.parameters,
  )
}

resource "google_cloud_run_v2_job" "check" {
  name                = "${var.name}-check"
  location            = var.region
  deletion_protection = false # it holds nothing

  template {
    template {
      service_account = google_service_account.launcher.email
      max_retries     = 1
      timeout         = "900s"

      containers {
        image   = var.image
        command = ["python", "-m", "beam_pipeline.rerun"]
        args = concat(
          [
            "--project=${var.project}",
            "--region=${var.region}",
            "--template=${local.template}",
            "--job-name=${var.name}",
            "--worker-account=${google_service_account.worker.email}",
            "--staging=gs://${google_storage_bucket.staging.name}",
          ],
          [for name, value in local.parameters : "--parameter=${name}=${value}"],
        )

        resources {
          limits = {
            cpu    = "1"
            memory = "2Gi"
          }
        }
      }
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_cloud_scheduler_job" "rerun" {
  name        = "${var.name}-rerun"
  region      = var.region
  description = "Looks whether the dataset is up to date, and has it brought up to date where it is not."
  schedule    = var.schedule
  time_zone   = var.time_zone
  paused      = var.paused

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.check.id}:run"

    oauth_token {
      service_account_email = google_service_account.scheduler.email
      scope                 = "https://www.googleapis.com/auth/cloud-platform"
    }
  }

  retry_config {
    retry_count = 2
  }

  depends_on = [google_project_service.needed]
}
