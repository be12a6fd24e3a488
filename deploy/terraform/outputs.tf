output "output" {
  description = "The dataset's folder, for --output."
  value       = local.output
}

output "images" {
  description = "Where the image is pushed to."
  value       = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "key_secret" {
  description = "For the profile's row of the caption writer: key_secret = …"
  value       = "${google_secret_manager_secret.llm_key.id}/versions/latest"
}

output "worker_account" {
  description = "For --service_account_email of runs that are started by hand."
  value       = google_service_account.worker.email
}
