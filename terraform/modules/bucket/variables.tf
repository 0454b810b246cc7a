variable "bucket_name" {
  description = "Name of the bucket, unique in the world."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bucket_name))
    error_message = "bucket_name must have 3 to 63 characters: small letters, digits, dots and hyphens."
  }
}

variable "force_destroy" {
  description = "Lets terraform destroy delete the bucket with all records in it."
  type        = bool
  default     = false
}

variable "kms_key_arn" {
  description = "Key of KMS for the objects; null: S3's own keys (AES256)."
  type        = string
  default     = null
}

variable "versioning_enabled" {
  description = "Keeps deleted objects as versions, at the price of their storage."
  type        = bool
  default     = false
}

variable "abort_multipart_days" {
  description = "Days after which unfinished uploads are removed."
  type        = number
  default     = 7

  validation {
    condition     = var.abort_multipart_days >= 1 && floor(var.abort_multipart_days) == var.abort_multipart_days
    error_message = "abort_multipart_days must be a whole number of at least 1."
  }
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
