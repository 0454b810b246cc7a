//! `kafka-cluster`

use std::ffi::OsString;

use kafka_protocol::messages as m;
use strandline_client::check;

use crate::command::{Connect, Failure, Outcome, parse};
use crate::table;

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The cluster's id.
    ClusterId {
        #[command(flatten)]
        connect: Connect,
    },
    /// Forgets a broker that will not come back.
    Unregister {
        #[command(flatten)]
        connect: Connect,
        /// The broker's `node.id`.
        #[arg(long)]
        id: i32,
    },
    /// Where the brokers are.
    ListEndpoints {
        #[command(flatten)]
        connect: Connect,
        /// List brokers that are fenced, too.
        #[arg(long)]
        include_fenced_brokers: bool,
    },
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    match options.command {
        Command::ClusterId { connect } => {
            let cluster = connect.cluster("adminclient-1")?;
            let answer = cluster.metadata(Some(&[])).await?;
            match answer.cluster_id {
                Some(id) => println!("Cluster ID: {}", id.as_str()),
                None => println!("No cluster ID found. The Kafka version is probably too old."),
            }
            Ok(())
        }
        Command::Unregister { connect, id } => {
            let cluster = connect.cluster("adminclient-1")?;
            let request = m::UnregisterBrokerRequest::default().with_broker_id(m::BrokerId(id));
            let answer = cluster.call_any("unregisterBroker", &request).await?;
            check("broker", answer.error_code, answer.error_message.as_ref())?;
            println!("Broker {id} is no longer registered.");
            Ok(())
        }
        Command::ListEndpoints {
            connect,
            include_fenced_brokers,
        } => list_endpoints(&connect, include_fenced_brokers).await,
    }
}

async fn list_endpoints(connect: &Connect, include_fenced: bool) -> Outcome {
    let cluster = connect.cluster("adminclient-1")?;
    let channel = cluster.any("describeCluster").await?;
    let version = channel.version_of::<m::DescribeClusterRequest>()?;
    if include_fenced && version < 2 {
        return Err(Failure::stderr(
            "The broker does not support listing fenced brokers",
        ));
    }
    let mut request = m::DescribeClusterRequest::default();
    if version >= 2 {
        request = request.with_include_fenced_brokers(include_fenced);
    }
    let answer = channel
        .call(&request, cluster.options.request_timeout)
        .await?;
    check("cluster", answer.error_code, answer.error_message.as_ref())?;
    let mut brokers = answer.brokers;
    brokers.sort_by_key(|b| b.broker_id.0);
    let rows: Vec<[String; 6]> = brokers
        .iter()
        .map(|b| {
            [
                b.broker_id.0.to_string(),
                b.host.to_string(),
                b.port.to_string(),
                b.rack.as_ref().map_or("null".into(), ToString::to_string),
                if b.is_fenced { "fenced" } else { "unfenced" }.to_owned(),
                "broker".to_owned(),
            ]
        })
        .collect();
    let column = |index: usize, least| table::width(least, rows.iter().map(|r| r[index].as_str()));
    let widths = [10, column(1, 9), 10, column(3, 5), 10, 15];
    let header = ["ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE"];
    println!("{}", table::line(&header, &widths));
    for row in &rows {
        let row = row.each_ref().map(String::as_str);
        println!("{}", table::line(&row, &widths));
    }
    Ok(())
}
