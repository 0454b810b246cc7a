//! The options of `kafka-configs`.

use std::path::PathBuf;

use crate::command::Connect;

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    pub connect: Connect,
    /// Change settings.
    #[arg(long)]
    pub alter: bool,
    /// Show settings.
    #[arg(long)]
    pub describe: bool,
    /// With --describe: also shows values that nobody has changed.
    #[arg(long)]
    pub all: bool,
    /// topics, brokers, broker-loggers, clients, users, ips, client-metrics or groups
    #[arg(long)]
    pub entity_type: Vec<String>,
    /// The name of the entity: a topic, a broker id, a user, a client id, an address, a group.
    #[arg(long)]
    pub entity_name: Vec<String>,
    /// The default of all entities of a type.
    #[arg(long)]
    pub entity_default: bool,
    /// Settings to be made: key1=value1,key2=[value21,value22].
    #[arg(long)]
    pub add_config: Option<String>,
    /// A properties file with the settings to add.
    #[arg(long)]
    pub add_config_file: Option<PathBuf>,
    /// Settings to be taken back: key1,key2.
    #[arg(long)]
    pub delete_config: Vec<String>,
    /// Ask nothing.
    #[arg(long)]
    pub force: bool,
    /// The topic, by name.
    #[arg(long)]
    pub topic: Option<String>,
    /// The broker, by id.
    #[arg(long)]
    pub broker: Option<String>,
    /// The broker, by id, whose log levels are meant.
    #[arg(long)]
    pub broker_logger: Option<String>,
    /// The client, by its client id.
    #[arg(long)]
    pub client: Option<String>,
    /// The user, by principal.
    #[arg(long)]
    pub user: Option<String>,
    /// The address of clients.
    #[arg(long)]
    pub ip: Option<String>,
    /// The subscription of client metrics, by name.
    #[arg(long)]
    pub client_metrics: Option<String>,
    /// The group, by id.
    #[arg(long)]
    pub group: Option<String>,
    /// The defaults of all brokers.
    #[arg(long)]
    pub broker_defaults: bool,
    /// The defaults of all clients.
    #[arg(long)]
    pub client_defaults: bool,
    /// The defaults of all users.
    #[arg(long)]
    pub user_defaults: bool,
    /// The defaults of all addresses.
    #[arg(long)]
    pub ip_defaults: bool,
}
