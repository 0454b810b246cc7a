variable "name" {
  description = "Name of the cluster and beginning of all names."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,31}$", var.name))
    error_message = "name must be at most 32 small letters, digits and hyphens, and begin with a letter."
  }
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}

# --- Network

variable "create_vpc" {
  description = "Makes a VPC. false: bring your own by vpc_id and subnet_ids."
  type        = bool
  default     = true
}

variable "vpc_id" {
  description = "Your VPC, with create_vpc = false."
  type        = string
  default     = null

  validation {
    condition     = var.create_vpc || var.vpc_id != null
    error_message = "With create_vpc = false, set vpc_id to the VPC that the brokers are to be in."
  }
}

variable "subnet_ids" {
  description = "Your subnets, with create_vpc = false: one for each zone, in a route table with an S3 gateway endpoint."
  type        = list(string)
  default     = []

  validation {
    condition     = var.create_vpc || length(var.subnet_ids) > 0
    error_message = "With create_vpc = false, set subnet_ids to the subnets that the brokers are to be in, one for each zone."
  }
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made."
  type        = string
  default     = "10.0.0.0/16"
}

variable "number_of_availability_zones" {
  description = "Zones of the VPC that is made."
  type        = number
  default     = 3

  validation {
    condition     = var.number_of_availability_zones >= 1 && var.number_of_availability_zones <= 6
    error_message = "number_of_availability_zones must be 1 to 6."
  }
}

variable "enable_nat_gateway" {
  description = "Lets brokers of the VPC that is made fetch their package and reach Systems Manager."
  type        = bool
  default     = true
}

# --- Brokers

variable "number_of_broker_nodes" {
  description = "Brokers: 1 for a trial, or 3 and more."
  type        = number
  default     = 3
}

variable "number_of_controllers" {
  description = "How many of the first brokers are controllers too: 1, 3 or 5. null: 3, or 1 with fewer than three brokers."
  type        = number
  default     = null
}

variable "broker_node_instance_type" {
  description = "Type of the instances."
  type        = string
  default     = "m7i.large"
}

variable "architecture" {
  description = "amd64 or arm64."
  type        = string
  default     = "amd64"
}

variable "ami_id" {
  description = "Image of the instances: Debian 12 or later with cloud-init. null: Debian's newest."
  type        = string
  default     = null
}

variable "broker_node_storage_info" {
  description = "The data disk of each broker: size in GiB, type, IOPS, MiB/s. The disk holds local retention, not all records."
  type = object({
    volume_size = number
    type        = optional(string, "gp3")
    iops        = optional(number, 3000)
    throughput  = optional(number, 250)
  })
  default = { volume_size = 200 }
}

variable "protect_data_volumes" {
  description = "Terraform refuses to delete the data disks. Set it before the first apply: changing it replaces them."
  type        = bool
  default     = true
}

variable "ebs_kms_key_arn" {
  description = "Key of KMS for the data disks; null: the account's default key."
  type        = string
  default     = null
}

variable "package_url" {
  description = "Where an instance gets the .deb of config/linux/package: an https:// address that the subnets reach."
  type        = string
}

variable "package_sha256" {
  description = "Its checksum, from SHA256SUMS."
  type        = string
}

variable "configuration_server_properties" {
  description = "Kafka's settings for every broker, over the module's defaults."
  type        = map(string)
  default     = {}
}

variable "allowed_security_group_ids" {
  description = "Security groups of Kafka clients."
  type        = list(string)
  default     = []
}

variable "allowed_cidr_blocks" {
  description = "Addresses of Kafka clients. There is no authentication yet: name networks that you trust."
  type        = list(string)
  default     = []
}

variable "monitoring_security_group_ids" {
  description = "Security groups of whoever scrapes /metrics on port 9644."
  type        = list(string)
  default     = []
}

# --- Bucket

variable "bucket_name" {
  description = "Name of the bucket that is made, unique in the world."
  type        = string
}

variable "bucket_prefix" {
  description = "Where in the bucket this cluster's objects are; null: the cluster's name."
  type        = string
  default     = null
}

variable "bucket_force_destroy" {
  description = "Lets terraform destroy delete the bucket with all records in it."
  type        = bool
  default     = false
}

variable "bucket_kms_key_arn" {
  description = "Key of KMS for the objects; null: S3's own keys (AES256)."
  type        = string
  default     = null
}

variable "bucket_versioning_enabled" {
  description = "Keeps deleted objects as versions, at the price of their storage."
  type        = bool
  default     = false
}

# --- Cost

variable "expected_load" {
  description = "For estimated_monthly_cost: MB/s written by producers as compressed by them, days of retention, and the share of it that is read from the cold tier."
  type = object({
    produced_mb_per_second = optional(number, 5)
    retention_days         = optional(number, 30)
    share_of_reads_cold    = optional(number, 0.1)
  })
  default = {}
}

variable "prices" {
  description = "US dollars, for estimated_monthly_cost; the defaults are list prices of us-east-1 in 2025. Yours differ: set them."
  type = object({
    instance_hour   = optional(number, 0.1008)
    disk_gb_month   = optional(number, 0.08)
    disk_iops_month = optional(number, 0.005)
    disk_mbps_month = optional(number, 0.04)
    bucket_gb_month = optional(number, 0.023)
    put_per_1000    = optional(number, 0.005)
    get_per_1000    = optional(number, 0.0004)
    cross_zone_gb   = optional(number, 0.01)
    nat_hour        = optional(number, 0.045)
  })
  default = {}

  validation {
    condition     = alltrue([for price in values(var.prices) : price >= 0])
    error_message = "prices must not be negative."
  }
}
