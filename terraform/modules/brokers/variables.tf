variable "name" {
  description = "Name of the cluster and beginning of all names."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,31}$", var.name))
    error_message = "name must be at most 32 small letters, digits and hyphens, and begin with a letter."
  }
}

variable "region" {
  description = "Region of bucket and brokers."
  type        = string
}

variable "partition" {
  description = "aws, aws-cn or aws-us-gov."
  type        = string
  default     = "aws"
}

variable "vpc_id" {
  description = "VPC of the brokers."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets, one for each zone: brokers take turns. Appending one later is safe; changing the order moves brokers."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 1
    error_message = "subnet_ids must name at least one subnet; three in three zones survive the loss of a zone."
  }
}

variable "number_of_broker_nodes" {
  description = "Brokers. Three is the least that loses nothing and goes on when one dies."
  type        = number
  default     = 3

  validation {
    condition     = var.number_of_broker_nodes >= 1 && var.number_of_broker_nodes <= 100 && var.number_of_broker_nodes != 2
    error_message = "number_of_broker_nodes must be 1 (a trial) or 3 to 100: with two, either one's death stops the cluster."
  }
}

variable "number_of_controllers" {
  description = "How many of the first brokers are controllers too: 1, 3 or 5. null: 3, or 1 with fewer than three brokers."
  type        = number
  default     = null

  validation {
    condition     = var.number_of_controllers == null ? true : contains([1, 3, 5], var.number_of_controllers)
    error_message = "number_of_controllers must be 1, 3 or 5."
  }
}

variable "broker_node_instance_type" {
  description = "Type of the instances; must be of `architecture` and have NVMe disks (Nitro)."
  type        = string
  default     = "m7i.large"
}

variable "architecture" {
  description = "amd64 or arm64, for Debian's image; the package must be of the same."
  type        = string
  default     = "amd64"

  validation {
    condition     = contains(["amd64", "arm64"], var.architecture)
    error_message = "architecture must be amd64 or arm64."
  }
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

  validation {
    condition     = var.broker_node_storage_info.volume_size >= 10 && var.broker_node_storage_info.volume_size <= 16384
    error_message = "broker_node_storage_info.volume_size must be 10 to 16384 GiB."
  }
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

variable "bucket_name" {
  description = "Bucket of the cold tier."
  type        = string
}

variable "bucket_arn" {
  description = "Its ARN."
  type        = string
}

variable "bucket_kms_key_arn" {
  description = "Key of KMS of the bucket, if it has one."
  type        = string
  default     = null
}

variable "bucket_prefix" {
  description = "Where in the bucket this cluster's objects are. Two clusters must not share one."
  type        = string

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]*[A-Za-z0-9]$", var.bucket_prefix))
    error_message = "bucket_prefix must be a path such as clusters/orders, without a slash at its ends."
  }
}

variable "package_url" {
  description = "Where an instance gets the .deb of config/linux/package: an https:// address that the subnets reach."
  type        = string

  validation {
    condition     = startswith(var.package_url, "https://")
    error_message = "package_url must begin with https://."
  }
}

variable "package_sha256" {
  description = "Its checksum, from SHA256SUMS."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "package_sha256 must be the 64 hexadecimal digits that SHA256SUMS has for the .deb."
  }
}

variable "configuration_server_properties" {
  description = "Kafka's settings for every broker, over the module's defaults."
  type        = map(string)
  default     = {}

  validation {
    condition = length(setintersection(keys(var.configuration_server_properties), [
      "process.roles", "node.id", "broker.id", "broker.rack", "listeners", "advertised.listeners", "controller.listener.names",
      "controller.quorum.voters", "log.dirs", "strandline.http.listener", "remote.log.storage.system.enable",
      "strandline.remote.store.url", "strandline.remote.store.region", "strandline.remote.store.create.bucket",
    ])) == 0
    error_message = "configuration_server_properties must leave identity, listeners, directories and the bucket to the module's own variables."
  }

  validation {
    condition     = !anytrue([for key in keys(var.configuration_server_properties) : endswith(key, "secret.access.key") || endswith(key, "access.key.id")])
    error_message = "No access keys in configuration_server_properties: they would be in the instances' user data. Brokers reach the bucket by their role."
  }

  validation {
    condition     = !anytrue([for key, value in var.configuration_server_properties : strcontains("${key}${value}", "\n")])
    error_message = "configuration_server_properties must not hold line breaks."
  }
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

  validation {
    condition     = alltrue([for block in var.allowed_cidr_blocks : can(cidrhost(block, 0)) && !endswith(block, "/0")])
    error_message = "allowed_cidr_blocks must be IPv4 ranges, and none of them everybody (0.0.0.0/0)."
  }
}

variable "monitoring_security_group_ids" {
  description = "Security groups of whoever scrapes /metrics on port 9644."
  type        = list(string)
  default     = []
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
