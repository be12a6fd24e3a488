# Three accounts, each with what it needs and no more. Only two roles are held on the project, because Dataflow has
# nothing smaller to hold them on. None of the three has keys.

resource "google_service_account" "scheduler" {
  account_id   = "${var.name}-scheduler"
  display_name = "Earshot: asks the launcher whether a run is needed"
}

resource "google_service_account" "launcher" {
  account_id   = "${var.name}-launcher"
  display_name = "Earshot: looks whether a run is needed, and starts it"
}

resource "google_service_account" "worker" {
  account_id   = "${var.name}-worker"
  display_name = "Earshot: the machines of a run"
}

# Scheduler: it may start one job of Cloud Run, and nothing else.

resource "google_cloud_run_v2_job_iam_member" "scheduler_starts_the_check" {
  project  = google_cloud_run_v2_job.check.project
  location = google_cloud_run_v2_job.check.location
  name     = google_cloud_run_v2_job.check.name
  role     = "roles/run.invoker"
  member   = google_service_account.scheduler.member
}

# Launcher: it reads the last manifest and the lists, and starts a job whose machines are the worker's.

resource "google_project_iam_member" "launcher_starts_jobs" {
  project = var.project
  role    = "roles/dataflow.developer"
  member  = google_service_account.launcher.member
}

resource "google_service_account_iam_member" "launcher_uses_the_worker" {
  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.launcher.member
}

resource "google_storage_bucket_iam_member" "launcher_reads_datasets" {
  bucket = google_storage_bucket.dataset.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.launcher.member
}

resource "google_storage_bucket_iam_member" "launcher_reads_the_template" {
  bucket = google_storage_bucket.staging.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.launcher.member
}

resource "google_storage_bucket_iam_member" "launcher_reads_lists" {
  for_each = var.media_buckets

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.launcher.member
}

# Worker: it reads clips and the key, and writes datasets and what it stages.

resource "google_project_iam_member" "worker_works" {
  project = var.project
  role    = "roles/dataflow.worker"
  member  = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_writes_datasets" {
  bucket = google_storage_bucket.dataset.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_stages" {
  bucket = google_storage_bucket.staging.name
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member
}

resource "google_storage_bucket_iam_member" "worker_reads_clips" {
  for_each = var.media_buckets

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member
}

resource "google_secret_manager_secret_iam_member" "worker_reads_the_key" {
  secret_id = google_secret_manager_secret.llm_key.id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.worker.member
}

resource "google_artifact_registry_repository_iam_member" "worker_pulls_images" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.worker.member
}
