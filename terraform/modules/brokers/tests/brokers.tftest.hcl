mock_provider "aws" {
  mock_data "aws_subnet" {
    defaults = { availability_zone = "eu-west-1a" }
  }
  mock_data "aws_ami" {
    defaults = { id = "ami-0123456789abcdef0" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Statement\":[]}" }
  }
}

variables {
  name           = "test"
  region         = "eu-west-1"
  vpc_id         = "vpc-0123456789abcdef0"
  subnet_ids     = ["subnet-a"]
  bucket_name    = "test-bucket"
  bucket_arn     = "arn:aws:s3:::test-bucket"
  bucket_prefix  = "test"
  package_url    = "https://packages.example.org/strandline.deb"
  package_sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
}

run "the_role_may_touch_its_prefix_only" {
  command = plan

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.bucket.statement :
      alltrue([for action in statement.actions : !strcontains(action, "*")])
    ])
    error_message = "Every action is named."
  }
  assert {
    condition     = toset(data.aws_iam_policy_document.bucket.statement[0].resources) == toset(["arn:aws:s3:::test-bucket/test/*"])
    error_message = "Objects of the prefix, and no others."
  }
  assert {
    condition = toset(data.aws_iam_policy_document.bucket.statement[0].actions) == toset([
      "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    ])
    error_message = "What a broker does with objects, and no more."
  }
  assert {
    condition     = toset(one(data.aws_iam_policy_document.bucket.statement[1].condition).values) == toset(["test", "test/*"])
    error_message = "Lists of the prefix only."
  }
}

run "nothing_is_open_to_everybody" {
  command = plan

  variables {
    allowed_security_group_ids = ["sg-0123456789abcdef0"]
    allowed_cidr_blocks        = ["10.0.0.0/8"]
  }

  assert {
    condition = alltrue([
      for rule in concat(
        values(aws_vpc_security_group_ingress_rule.between),
        values(aws_vpc_security_group_ingress_rule.clients),
        values(aws_vpc_security_group_ingress_rule.client_addresses),
        values(aws_vpc_security_group_ingress_rule.metrics),
      ) : rule.cidr_ipv4 != "0.0.0.0/0" && rule.cidr_ipv6 == null
    ])
    error_message = "No ingress from 0.0.0.0/0."
  }
  assert {
    condition     = alltrue([for rule in values(aws_vpc_security_group_ingress_rule.client_addresses) : rule.from_port == 9092 && rule.to_port == 9092])
    error_message = "Clients reach the clients' port."
  }
}

run "instances_and_disks_are_guarded" {
  command = plan

  assert {
    condition     = alltrue([for instance in values(aws_instance.broker) : instance.metadata_options[0].http_tokens == "required"])
    error_message = "IMDSv2 is required."
  }
  assert {
    condition     = length(aws_ebs_volume.protected) == 3 && length(aws_ebs_volume.disposable) == 0 && alltrue([for volume in values(aws_ebs_volume.protected) : volume.encrypted])
    error_message = "Disks are encrypted, and Terraform does not delete them."
  }
}

run "two_brokers_are_refused" {
  command = plan

  variables {
    number_of_broker_nodes = 2
  }

  expect_failures = [var.number_of_broker_nodes]
}

run "everybody_is_refused" {
  command = plan

  variables {
    allowed_cidr_blocks = ["0.0.0.0/0"]
  }

  expect_failures = [var.allowed_cidr_blocks]
}

run "secrets_are_refused" {
  command = plan

  variables {
    configuration_server_properties = { "strandline.remote.store.secret.access.key" = "x" }
  }

  expect_failures = [var.configuration_server_properties]
}

run "identity_is_the_modules_own" {
  command = plan

  variables {
    configuration_server_properties = { "node.id" = "7" }
  }

  expect_failures = [var.configuration_server_properties]
}

run "a_package_without_a_checksum_is_refused" {
  command = plan

  variables {
    package_sha256 = "latest"
  }

  expect_failures = [var.package_sha256]
}
