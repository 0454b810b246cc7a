output "bootstrap_brokers" {
  description = "For bootstrap.servers: HOST:PORT of every broker, separated by commas."
  value       = join(",", [for id, broker in local.brokers : "${local.addresses[id]}:9092"])
}

output "metrics_endpoints" {
  description = "HOST:PORT of every broker's /metrics, for Prometheus."
  value       = [for id, broker in local.brokers : "${local.addresses[id]}:9644"]
}

output "iam_role_arn" {
  description = "Role of the brokers."
  value       = aws_iam_role.broker.arn
}

output "security_group_id" {
  description = "Security group of the brokers."
  value       = aws_security_group.brokers.id
}

output "instance_ids" {
  description = "Instance of each broker, by its id."
  value       = { for id, instance in aws_instance.broker : id => instance.id }
}

output "volume_ids" {
  description = "Data disk of each broker, by its id."
  value       = local.volume_ids
}

output "server_properties" {
  description = "server.properties of each broker, by its id."
  value       = local.server_properties
}

output "iam_policy" {
  description = "The permissions of the role in the bucket, as JSON."
  value       = data.aws_iam_policy_document.bucket.json
}
