# Three brokers in a VPC that is there already, with an S3 gateway endpoint of its own.

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

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets, one for each zone."
  type        = list(string)
}

variable "client_security_group_ids" {
  description = "Security groups of the applications."
  type        = list(string)
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

module "strandline" {
  source = "../.."

  name                       = "strandline"
  create_vpc                 = false
  vpc_id                     = var.vpc_id
  subnet_ids                 = var.subnet_ids
  bucket_name                = var.bucket_name
  package_url                = var.package_url
  package_sha256             = var.package_sha256
  allowed_security_group_ids = var.client_security_group_ids
}

output "bootstrap_brokers" {
  description = "For bootstrap.servers."
  value       = module.strandline.bootstrap_brokers
}
