terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.0, < 9.0"
    }
  }

  # State names accounts and buckets, never a key's value. Keep it in a bucket of your own:
  #   terraform init -backend-config="bucket=<bucket>" -backend-config="prefix=earshot"
  backend "gcs" {}
}

provider "google" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true # the budget's API wants a project that pays for the request
}
