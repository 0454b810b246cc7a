variable "name" {
  description = "Name of everything that is made."
  type        = string
}

variable "region" {
  description = "Region, for the name of the S3 endpoint's service."
  type        = string
}

variable "vpc_cidr" {
  description = "Addresses of the VPC: at least a /24."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrsubnet(var.vpc_cidr, 4, 15)) && tonumber(split("/", var.vpc_cidr)[1]) <= 24
    error_message = "vpc_cidr must be an IPv4 range of at least a /24, such as 10.0.0.0/16."
  }
}

variable "availability_zones" {
  description = "Zones, each with a private subnet. Brokers are spread over them in this order."
  type        = list(string)

  validation {
    condition     = length(var.availability_zones) >= 1 && length(var.availability_zones) <= 6
    error_message = "availability_zones must name one to six zones."
  }
}

variable "enable_nat_gateway" {
  description = "Lets brokers fetch their package and reach Systems Manager. false: both must be reachable in another way."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags of everything that is made."
  type        = map(string)
  default     = {}
}
