//! How this process takes part in the quorum: its directory, identity, listener and the voters that it knows.

use std::path::Path;
use std::time::Duration;

use strandline_metadata::config::BrokerConfig;
use strandline_quorum::{ControllerListener, QuorumOptions};
use strandline_types::BrokerId;
use uuid::Uuid;

use crate::endpoints::bind_controller;
use crate::founding::Founding;
use crate::settings::Settings;
use crate::start_error::StartError;

/// The log directory that holds the metadata.
pub(crate) fn metadata_parent(settings: &Settings) -> &Path {
    settings.metadata_dir.parent().unwrap_or(Path::new("."))
}

pub(crate) fn quorum_options(
    settings: &Settings,
    config: &BrokerConfig,
    incarnation: Uuid,
    founding: Founding,
) -> Result<QuorumOptions, StartError> {
    let controller = settings.controller_listener.as_ref();
    let listener = controller.map(|(endpoint, address)| {
        let listener = bind_controller(endpoint)?;
        Ok::<_, StartError>(ControllerListener {
            listener,
            address: address.clone(),
        })
    });
    let heartbeat = config.number("broker.heartbeat.interval.ms").max(1) as u64;
    let directory = metadata_parent(settings);
    std::fs::create_dir_all(directory)?;
    let directory_id = strandline_log::identify(directory, settings.node_id, None)?;
    if settings.roles.controller && !settings.founds_quorum {
        tracing::info!(
            node_id = settings.node_id,
            "this controller votes once it is added to the quorum (kafka-metadata-quorum add-controller)"
        );
    }
    Ok(QuorumOptions {
        directory: settings.metadata_dir.clone(),
        node_id: BrokerId(settings.node_id),
        incarnation,
        directory_id,
        founds: settings.founds_quorum,
        remembers: founding == Founding::OnlyJoin,
        listener: listener.transpose()?,
        voters: settings.voters.clone(),
        contacts: settings.controller_contacts.clone(),
        heartbeat_interval: Duration::from_millis(heartbeat),
    })
}
