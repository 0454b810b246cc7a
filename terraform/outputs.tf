output "bootstrap_brokers" {
  description = "For bootstrap.servers: HOST:PORT of every broker, separated by commas."
  value       = module.brokers.bootstrap_brokers
}

output "metrics_endpoints" {
  description = "HOST:PORT of every broker's /metrics, for Prometheus."
  value       = module.brokers.metrics_endpoints
}

output "bucket_name" {
  description = "Bucket of the cold tier."
  value       = module.bucket.bucket_name
}

output "iam_role_arn" {
  description = "Role of the brokers."
  value       = module.brokers.iam_role_arn
}

output "security_group_id" {
  description = "Security group of the brokers."
  value       = module.brokers.security_group_id
}

output "vpc_id" {
  description = "VPC of the brokers."
  value       = local.vpc_id
}

output "instance_ids" {
  description = "Instance of each broker, by its id."
  value       = module.brokers.instance_ids
}

output "server_properties" {
  description = "server.properties of each broker, by its id."
  value       = module.brokers.server_properties
}

output "estimated_monthly_cost" {
  description = "US dollars a month by part, from expected_load and prices."
  value       = merge({ for part, cost in local.monthly_cost : part => floor(cost * 100 + 0.5) / 100 }, { total = floor(sum(values(local.monthly_cost)) * 100 + 0.5) / 100 })
}
