# One broker with a disk and a bucket that go with it: for a trial.

terraform {
  required_version = ">= 1.9, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region

  # Another API than Amazon's, such as a simulator on this machine.
  access_key                  = var.endpoint == null ? null : "test"
  secret_key                  = var.endpoint == null ? null : "test"
  skip_credentials_validation = var.endpoint != null
  skip_metadata_api_check     = var.endpoint != null
  skip_requesting_account_id  = var.endpoint != null
  s3_use_path_style           = var.endpoint != null

  dynamic "endpoints" {
    for_each = var.endpoint == null ? [] : [var.endpoint]

    content {
      ec2 = endpoints.value
      iam = endpoints.value
      s3  = endpoints.value
      sts = endpoints.value
    }
  }
}

variable "region" {
  description = "Region."
  type        = string
  default     = "eu-west-1"
}

variable "endpoint" {
  description = "Address of another AWS API; null: Amazon's."
  type        = string
  default     = null
}

variable "bucket_name" {
  description = "Name of the bucket, unique in the world."
  type        = string
}

variable "package_url" {
  description = "https:// address of the .deb."
  type        = string
}

variable "package_sha256" {
  description = "Its checksum."
  type        = string
}

variable "ami_id" {
  description = "Image; null: Debian's newest."
  type        = string
  default     = null
}

module "strandline" {
  source = "../.."

  name                         = "strandline-trial"
  number_of_broker_nodes       = 1
  number_of_availability_zones = 1
  broker_node_instance_type    = "t3.medium"
  broker_node_storage_info     = { volume_size = 20 }
  protect_data_volumes         = false
  ami_id                       = var.ami_id
  bucket_name                  = var.bucket_name
  bucket_force_destroy         = true
  package_url                  = var.package_url
  package_sha256               = var.package_sha256
  allowed_cidr_blocks          = ["10.0.0.0/16"]
  expected_load                = { produced_mb_per_second = 0.1, retention_days = 7 }
}

output "bootstrap_brokers" {
  description = "For bootstrap.servers."
  value       = module.strandline.bootstrap_brokers
}

output "bucket_name" {
  description = "Bucket of the cold tier."
  value       = module.strandline.bucket_name
}

output "server_properties" {
  description = "Of each broker."
  value       = module.strandline.server_properties
}

output "estimated_monthly_cost" {
  description = "US dollars a month by part."
  value       = module.strandline.estimated_monthly_cost
}
