locals {
  # Brokers have the ids 1, 2, 3, …; each keeps its zone, its address and its disk whatever happens to its instance.
  brokers = {
    for index in range(var.number_of_broker_nodes) : tostring(index + 1) => {
      node_id   = index + 1
      subnet_id = var.subnet_ids[index % length(var.subnet_ids)]
      zone      = data.aws_subnet.broker[index % length(var.subnet_ids)].availability_zone
    }
  }
  number_of_controllers = coalesce(var.number_of_controllers, var.number_of_broker_nodes >= 3 ? 3 : 1)
  addresses             = { for id, interface in aws_network_interface.broker : id => interface.private_ip }
  voters = join(",", [
    for index in range(local.number_of_controllers) : "${index + 1}@${local.addresses[tostring(index + 1)]}:9093"
  ])
  replication = min(3, var.number_of_broker_nodes)

  defaults = {
    "default.replication.factor"       = tostring(local.replication)
    "min.insync.replicas"              = tostring(max(1, local.replication - 1))
    "offsets.topic.replication.factor" = tostring(local.replication)
    "num.partitions"                   = "6"
    "auto.create.topics.enable"        = "false"
    "replica.selector.class"           = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    "log.remote.storage.enable"        = "true"
    "log.local.retention.ms"           = "86400000"
  }

  server_properties = {
    for id, broker in local.brokers : id => join("\n", [
      for key, value in merge(local.defaults, var.configuration_server_properties, {
        "process.roles"                         = broker.node_id <= local.number_of_controllers ? "broker,controller" : "broker"
        "node.id"                               = tostring(broker.node_id)
        "broker.rack"                           = broker.zone
        "listeners"                             = broker.node_id <= local.number_of_controllers ? "PLAINTEXT://:9092,CONTROLLER://:9093" : "PLAINTEXT://:9092"
        "advertised.listeners"                  = "PLAINTEXT://${local.addresses[id]}:9092"
        "controller.listener.names"             = "CONTROLLER"
        "controller.quorum.voters"              = local.voters
        "log.dirs"                              = "/var/lib/strandline/data"
        "strandline.http.listener"              = "0.0.0.0:9644"
        "remote.log.storage.system.enable"      = "true"
        "strandline.remote.store.url"           = "s3://${var.bucket_name}/${var.bucket_prefix}"
        "strandline.remote.store.region"        = var.region
        "strandline.remote.store.create.bucket" = "false"
      }) : "${key}=${value}"
    ])
  }

  user_data = {
    for id, broker in local.brokers : id => templatefile("${path.module}/user-data.yml.tftpl", {
      server_properties = local.server_properties[id]
      volume_id         = local.volume_ids[id]
      package_url       = var.package_url
      package_sha256    = var.package_sha256
    })
  }

  volume_ids = merge(
    { for id, volume in aws_ebs_volume.protected : id => volume.id },
    { for id, volume in aws_ebs_volume.disposable : id => volume.id },
  )
}

data "aws_subnet" "broker" {
  count = length(var.subnet_ids)

  id = var.subnet_ids[count.index]
}

data "aws_ami" "debian" {
  count = var.ami_id == null ? 1 : 0

  most_recent = true
  owners      = ["136693071363"] # Debian

  filter {
    name   = "name"
    values = ["debian-12-${var.architecture}-*"]
  }
}

resource "aws_network_interface" "broker" {
  for_each = local.brokers

  subnet_id       = each.value.subnet_id
  security_groups = [aws_security_group.brokers.id]
  description     = "${var.name} broker ${each.key}"
  tags            = merge(var.tags, { Name = "${var.name}-broker-${each.key}" })
}

# Records outlive instances. Twice, because Terraform takes no variable for prevent_destroy.
resource "aws_ebs_volume" "protected" {
  for_each = var.protect_data_volumes ? local.brokers : {}

  availability_zone = each.value.zone
  size              = var.broker_node_storage_info.volume_size
  type              = var.broker_node_storage_info.type
  iops              = var.broker_node_storage_info.iops
  throughput        = var.broker_node_storage_info.throughput
  encrypted         = true
  kms_key_id        = var.ebs_kms_key_arn
  tags              = merge(var.tags, { Name = "${var.name}-broker-${each.key}-data" })

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_ebs_volume" "disposable" {
  for_each = var.protect_data_volumes ? {} : local.brokers

  availability_zone = each.value.zone
  size              = var.broker_node_storage_info.volume_size
  type              = var.broker_node_storage_info.type
  iops              = var.broker_node_storage_info.iops
  throughput        = var.broker_node_storage_info.throughput
  encrypted         = true
  kms_key_id        = var.ebs_kms_key_arn
  tags              = merge(var.tags, { Name = "${var.name}-broker-${each.key}-data" })
}

resource "aws_instance" "broker" {
  for_each = local.brokers

  ami                  = var.ami_id == null ? data.aws_ami.debian[0].id : var.ami_id
  instance_type        = var.broker_node_instance_type
  iam_instance_profile = aws_iam_instance_profile.broker.name
  user_data            = local.user_data[each.key]
  tags                 = merge(var.tags, { Name = "${var.name}-broker-${each.key}" })

  network_interface {
    network_interface_id = aws_network_interface.broker[each.key].id
    device_index         = 0
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 16
    encrypted   = true
  }

  lifecycle {
    # A new configuration or image must not replace every broker in one apply: they are replaced one by one, by
    # terraform apply -replace, and take then what is current.
    ignore_changes = [ami, user_data]
  }
}

resource "aws_volume_attachment" "data" {
  for_each = local.brokers

  device_name                    = "/dev/sdf"
  instance_id                    = aws_instance.broker[each.key].id
  volume_id                      = local.volume_ids[each.key]
  stop_instance_before_detaching = true
}
