variable "project" {
  description = "The project that everything lives in."
  type        = string
}

variable "region" {
  description = "Where jobs run and buckets lie; it needs the accelerator of the preset."
  type        = string
  default     = "us-central1"
}

variable "name" {
  description = "Begins the names of all that is made here, so that a project may hold it twice."
  type        = string
  default     = "earshot"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,18}[a-z0-9]$", var.name))
    error_message = "Use 4 to 20 small letters, digits and hyphens, a letter first: accounts are named <name>-launcher."
  }
}

variable "dataset_bucket" {
  description = "The bucket that is made for datasets: store, versions, models."
  type        = string
}

variable "staging_bucket" {
  description = "The bucket that is made for what jobs stage, and for the flex template's spec."
  type        = string
}

variable "media_buckets" {
  description = "Buckets that exist already and hold clips, lists or tar shards; jobs may read them."
  type        = set(string)
  default     = []
}

variable "template" {
  description = "The flex template's spec, as deploy/dataflow wrote it, below the staging bucket."
  type        = string
  default     = "templates/earshot.json"
}

variable "image" {
  description = "The image of deploy/dataflow, by its digest: <region>-docker.pkg.dev/…@sha256:…"
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest (@sha256:…), so that what runs next week is what was tested."
  }
}

variable "profile" {
  description = "Which cues, filters and writer: a name, or the path of a .toml file in the image."
  type        = string
  default     = "auto_acd"
}

variable "preset" {
  description = "Which machines: l4, t4, a100, or the path of a .toml file in the image."
  type        = string
  default     = "l4"
}

variable "clips" {
  description = "Where the clips are listed, gs://…"
  type        = string
}

variable "output" {
  description = "The dataset's folder below the dataset bucket."
  type        = string
  default     = "datasets/main"
}

variable "models" {
  description = "The folder below the dataset bucket that `earshot models fetch` filled."
  type        = string
  default     = "models"
}

variable "parameters" {
  description = "Further parameters of the template, by name: media, max_num_workers, budget …"
  type        = map(string)
  default     = {}
}

variable "schedule" {
  description = "When to look whether a run is needed, in cron's form."
  type        = string
  default     = "0 3 * * 1"
}

variable "time_zone" {
  description = "Of the schedule."
  type        = string
  default     = "Etc/UTC"
}

variable "paused" {
  description = "Whether the schedule is at rest. It starts so, because what it starts costs money."
  type        = bool
  default     = true
}

variable "alert_email" {
  description = "Who is told of failed and overlong runs, and of money spent."
  type        = string
}

variable "longest_run_hours" {
  description = "A run that takes longer raises an alert."
  type        = number
  default     = 24
}

variable "billing_account" {
  description = "The billing account, for a budget's alerts; empty for none. A budget warns; it stops nothing."
  type        = string
  default     = ""
}

variable "monthly_budget_dollars" {
  description = "At half, 90 % and all of it, whoever gets alerts is told."
  type        = number
  default     = 500
}
