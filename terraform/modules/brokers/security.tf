locals {
  ports = {
    clients     = 9092
    controllers = 9093
    metrics     = 9644
  }
}

resource "aws_security_group" "brokers" {
  name        = "${var.name}-brokers"
  description = "Brokers of ${var.name}"
  vpc_id      = var.vpc_id
  tags        = merge(var.tags, { Name = "${var.name}-brokers" })
}

resource "aws_vpc_security_group_ingress_rule" "between" {
  for_each = local.ports

  security_group_id            = aws_security_group.brokers.id
  description                  = "Between brokers: ${each.key}"
  referenced_security_group_id = aws_security_group.brokers.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = { for index, id in var.allowed_security_group_ids : tostring(index) => id }

  security_group_id            = aws_security_group.brokers.id
  description                  = "Kafka clients"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = local.ports.clients
  to_port                      = local.ports.clients
}

resource "aws_vpc_security_group_ingress_rule" "client_addresses" {
  for_each = toset(var.allowed_cidr_blocks)

  security_group_id = aws_security_group.brokers.id
  description       = "Kafka clients"
  cidr_ipv4         = each.value
  ip_protocol       = "tcp"
  from_port         = local.ports.clients
  to_port           = local.ports.clients
}

resource "aws_vpc_security_group_ingress_rule" "metrics" {
  for_each = { for index, id in var.monitoring_security_group_ids : tostring(index) => id }

  security_group_id            = aws_security_group.brokers.id
  description                  = "Prometheus"
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = local.ports.metrics
  to_port                      = local.ports.metrics
}

resource "aws_vpc_security_group_egress_rule" "between" {
  security_group_id            = aws_security_group.brokers.id
  description                  = "To other brokers"
  referenced_security_group_id = aws_security_group.brokers.id
  ip_protocol                  = "tcp"
  from_port                    = 9092
  to_port                      = 9093
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.brokers.id
  description       = "The bucket, the package, Systems Manager"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
