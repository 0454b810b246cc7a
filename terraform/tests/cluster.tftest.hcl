# Checks the important parts of a plan, without an account: terraform test.

mock_provider "aws" {
  mock_data "aws_availability_zones" {
    defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-west-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_ami" {
    defaults = { id = "ami-0123456789abcdef0" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Statement\":[]}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/strandline" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::test-bucket", id = "test-bucket" }
  }
}

override_data {
  target = module.brokers.data.aws_subnet.broker[0]
  values = { availability_zone = "eu-west-1a" }
}

override_data {
  target = module.brokers.data.aws_subnet.broker[1]
  values = { availability_zone = "eu-west-1b" }
}

override_data {
  target = module.brokers.data.aws_subnet.broker[2]
  values = { availability_zone = "eu-west-1c" }
}

override_resource {
  target = module.brokers.aws_network_interface.broker
  values = { private_ip = "10.0.0.10" }
}

variables {
  name                       = "test"
  bucket_name                = "test-bucket"
  package_url                = "https://packages.example.org/strandline.deb"
  package_sha256             = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  allowed_security_group_ids = ["sg-0123456789abcdef0"]
  protect_data_volumes       = false
}

run "three_brokers_in_three_zones" {
  command = apply

  assert {
    condition     = toset([for properties in values(output.server_properties) : regex("broker.rack=(.*)", properties)[0]]) == toset(["eu-west-1a", "eu-west-1b", "eu-west-1c"])
    error_message = "Each broker is in a zone of its own, and says so."
  }
  assert {
    condition     = alltrue([for id, properties in output.server_properties : strcontains(properties, "\nnode.id=${id}\n")])
    error_message = "Each broker has its own id."
  }
  assert {
    condition     = alltrue([for properties in values(output.server_properties) : strcontains(properties, "controller.quorum.voters=1@10.0.0.10:9093,2@10.0.0.10:9093,3@10.0.0.10:9093")])
    error_message = "All have the same three voters."
  }
  assert {
    condition     = alltrue([for properties in values(output.server_properties) : strcontains(properties, "strandline.remote.store.url=s3://test-bucket/test") && strcontains(properties, "min.insync.replicas=2")])
    error_message = "All have the bucket and the defaults."
  }
  assert {
    condition     = output.estimated_monthly_cost.total > 0 && output.estimated_monthly_cost.instances == 220.75
    error_message = "The cost is estimated: three instances at 0.1008 an hour."
  }
  assert {
    condition     = length(split(",", output.bootstrap_brokers)) == 3
    error_message = "All brokers are named for bootstrap.servers."
  }
}

run "seven_brokers_and_settings_of_ones_own" {
  command = apply

  variables {
    number_of_broker_nodes          = 7
    configuration_server_properties = { "log.retention.hours" = "720", "num.partitions" = "12" }
  }

  assert {
    condition     = length([for properties in values(output.server_properties) : properties if strcontains(properties, "process.roles=broker,controller")]) == 3
    error_message = "Three of seven are controllers."
  }
  assert {
    condition     = alltrue([for properties in values(output.server_properties) : strcontains(properties, "log.retention.hours=720") && strcontains(properties, "num.partitions=12") && !strcontains(properties, "num.partitions=6")])
    error_message = "One's own settings are over the defaults."
  }
}

run "a_vpc_of_ones_own_makes_none" {
  command = plan

  variables {
    create_vpc = false
    vpc_id     = "vpc-0123456789abcdef0"
    subnet_ids = ["subnet-a", "subnet-b", "subnet-c"]
  }

  assert {
    condition     = length(module.network) == 0 && output.vpc_id == "vpc-0123456789abcdef0"
    error_message = "No VPC is made."
  }
}

run "a_vpc_of_ones_own_must_be_named" {
  command = plan

  variables {
    create_vpc = false
  }

  expect_failures = [var.vpc_id, var.subnet_ids]
}

