# Six brokers in three zones, a month of records, keys of your own.

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
  region = "eu-west-1"
}

variable "package_url" {
  description = "https:// address of the .deb."
  type        = string
}

variable "package_sha256" {
  description = "Its checksum."
  type        = string
}

variable "kms_key_arn" {
  description = "Key of KMS for disks and bucket."
  type        = string
}

variable "client_security_group_ids" {
  description = "Security groups of the applications."
  type        = list(string)
}

variable "monitoring_security_group_ids" {
  description = "Security groups of Prometheus."
  type        = list(string)
}

module "strandline" {
  source = "../.."

  name                          = "orders"
  number_of_broker_nodes        = 6
  broker_node_instance_type     = "m7g.xlarge"
  architecture                  = "arm64"
  broker_node_storage_info      = { volume_size = 500, iops = 6000, throughput = 500 }
  ebs_kms_key_arn               = var.kms_key_arn
  bucket_name                   = "example-orders-strandline"
  bucket_kms_key_arn            = var.kms_key_arn
  package_url                   = var.package_url
  package_sha256                = var.package_sha256
  allowed_security_group_ids    = var.client_security_group_ids
  monitoring_security_group_ids = var.monitoring_security_group_ids

  configuration_server_properties = {
    "log.retention.hours"    = "720"
    "log.local.retention.ms" = "43200000"
  }

  expected_load = { produced_mb_per_second = 30, retention_days = 30 }
  prices        = { instance_hour = 0.1822 }
  tags          = { team = "orders" }
}

output "bootstrap_brokers" {
  description = "For bootstrap.servers."
  value       = module.strandline.bootstrap_brokers
}

output "estimated_monthly_cost" {
  description = "US dollars a month by part."
  value       = module.strandline.estimated_monthly_cost
}
