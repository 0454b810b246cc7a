data "aws_region" "current" {}

data "aws_partition" "current" {}

data "aws_availability_zones" "available" {
  state = "available"

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

locals {
  zones = slice(
    data.aws_availability_zones.available.names, 0,
    min(var.number_of_availability_zones, length(data.aws_availability_zones.available.names)),
  )
  vpc_id     = var.create_vpc ? module.network[0].vpc_id : var.vpc_id
  subnet_ids = var.create_vpc ? module.network[0].private_subnet_ids : var.subnet_ids
  tags       = merge({ strandline = var.name }, var.tags)
}

module "network" {
  source = "./modules/network"
  count  = var.create_vpc ? 1 : 0

  name               = var.name
  region             = data.aws_region.current.name
  vpc_cidr           = var.vpc_cidr
  availability_zones = local.zones
  enable_nat_gateway = var.enable_nat_gateway
  tags               = local.tags
}

module "bucket" {
  source = "./modules/bucket"

  bucket_name        = var.bucket_name
  force_destroy      = var.bucket_force_destroy
  kms_key_arn        = var.bucket_kms_key_arn
  versioning_enabled = var.bucket_versioning_enabled
  tags               = local.tags
}

module "brokers" {
  source = "./modules/brokers"

  name                            = var.name
  region                          = data.aws_region.current.name
  partition                       = data.aws_partition.current.partition
  vpc_id                          = local.vpc_id
  subnet_ids                      = local.subnet_ids
  number_of_broker_nodes          = var.number_of_broker_nodes
  number_of_controllers           = var.number_of_controllers
  broker_node_instance_type       = var.broker_node_instance_type
  architecture                    = var.architecture
  ami_id                          = var.ami_id
  broker_node_storage_info        = var.broker_node_storage_info
  protect_data_volumes            = var.protect_data_volumes
  ebs_kms_key_arn                 = var.ebs_kms_key_arn
  bucket_name                     = module.bucket.bucket_name
  bucket_arn                      = module.bucket.bucket_arn
  bucket_kms_key_arn              = var.bucket_kms_key_arn
  bucket_prefix                   = coalesce(var.bucket_prefix, var.name)
  package_url                     = var.package_url
  package_sha256                  = var.package_sha256
  configuration_server_properties = var.configuration_server_properties
  allowed_security_group_ids      = var.allowed_security_group_ids
  allowed_cidr_blocks             = var.allowed_cidr_blocks
  monitoring_security_group_ids   = var.monitoring_security_group_ids
  tags                            = local.tags
}
