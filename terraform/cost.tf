locals {
  brokers       = var.number_of_broker_nodes
  replication   = min(3, local.brokers)
  hours         = 730
  gb_in         = var.expected_load.produced_mb_per_second * 3600 * local.hours / 1000
  gb_cold       = var.expected_load.produced_mb_per_second * 86400 * var.expected_load.retention_days / 1000
  gb_read_cold  = local.gb_in * var.expected_load.share_of_reads_cold
  several_zones = var.number_of_availability_zones > 1 && local.brokers > 1

  # Measured: PUT-class requests per GB offloaded and GETs per GB read from the cold tier (docs/COST.md).
  puts_per_gb = 43
  gets_per_gb = 239

  monthly_cost = {
    instances = local.brokers * local.hours * var.prices.instance_hour
    disks = local.brokers * (
      var.broker_node_storage_info.volume_size * var.prices.disk_gb_month
      + max(0, var.broker_node_storage_info.iops - 3000) * var.prices.disk_iops_month
      + max(0, var.broker_node_storage_info.throughput - 125) * var.prices.disk_mbps_month
    )
    bucket   = local.gb_cold * var.prices.bucket_gb_month
    requests = local.gb_in * local.puts_per_gb / 1000 * var.prices.put_per_1000 + local.gb_read_cold * local.gets_per_gb / 1000 * var.prices.get_per_1000
    # Every replica but the leader's own crosses zones, and two thirds of what clients write; what consumers read comes
    # from the replica in their zone.
    cross_zone = local.several_zones ? local.gb_in * (local.replication - 1 + 2 / 3) * 2 * var.prices.cross_zone_gb : 0
    nat        = var.create_vpc && var.enable_nat_gateway ? local.hours * var.prices.nat_hour : 0
  }
}
