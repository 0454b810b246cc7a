//! The part of a process in the metadata quorum: roles, voters, the controllers' listener.

use std::collections::BTreeMap;

use super::endpoint::{Endpoint, check_address, host_name, is_unspecified};
use super::{SettingsError, invalid};

/// `process.roles`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    pub broker: bool,
    pub controller: bool,
}

/// The roles of the process. Without `process.roles`: a broker, and a controller unless only other processes vote.
pub(super) fn roles(
    text: Option<&str>,
    node_id: i32,
    voters: &BTreeMap<i32, String>,
) -> Result<Roles, SettingsError> {
    let Some(text) = text else {
        let controller = voters.is_empty() || voters.contains_key(&node_id);
        return Ok(Roles {
            broker: true,
            controller,
        });
    };
    let mut roles = Roles {
        broker: false,
        controller: false,
    };
    for role in text.split(',').map(str::trim).filter(|r| !r.is_empty()) {
        match role {
            "broker" => roles.broker = true,
            "controller" => roles.controller = true,
            other => {
                let reason = format!("{other} is neither broker nor controller");
                return Err(invalid("process.roles", reason));
            }
        }
    }
    if !roles.broker && !roles.controller {
        return Err(invalid("process.roles", "names no role"));
    }
    Ok(roles)
}

/// `1@host:port,2@host:port`
pub(super) fn voters(text: &str) -> Result<BTreeMap<i32, String>, SettingsError> {
    let mut voters = BTreeMap::new();
    for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let parsed = entry.split_once('@').and_then(|(id, address)| {
            let port = address.rsplit_once(':')?.1;
            port.parse::<u16>().ok()?;
            let id = id.parse::<i32>().ok().filter(|id| *id >= 0)?;
            Some((id, address.to_owned()))
        });
        let (id, address) = parsed.ok_or_else(|| {
            invalid(
                "controller.quorum.voters",
                format!("{entry} is not id@host:port"),
            )
        })?;
        if voters.insert(id, address).is_some() {
            let reason = format!("{id} is named twice");
            return Err(invalid("controller.quorum.voters", reason));
        }
    }
    Ok(voters)
}

/// Where voters are named, the controllers are these and no others, in Kafka's words. A controller that is to be added
/// later names `controller.quorum.bootstrap.servers` instead.
pub(super) fn check_voters(
    roles: Roles,
    node_id: i32,
    voters: &BTreeMap<i32, String>,
) -> Result<(), SettingsError> {
    if voters.is_empty() || voters.contains_key(&node_id) == roles.controller {
        return Ok(());
    }
    let ids: Vec<String> = voters.keys().map(ToString::to_string).collect();
    let ids = ids.join(", ");
    let reason = if roles.controller {
        format!(
            "If process.roles contains the 'controller' role, the node id {node_id} must be included in the set of voters \
             controller.quorum.voters=[{ids}]"
        )
    } else {
        format!(
            "If process.roles contains just the 'broker' role, the node id {node_id} must not be included in the set of \
             voters controller.quorum.voters=[{ids}]"
        )
    };
    Err(invalid("controller.quorum.voters", reason))
}

/// `host:port,host:port`
pub(super) fn contacts(text: &str) -> Result<Vec<String>, SettingsError> {
    let property = "controller.quorum.bootstrap.servers";
    let named = text.split(',').map(str::trim).filter(|c| !c.is_empty());
    named
        .map(|contact| check_address(property, contact).map(|()| contact.to_owned()))
        .collect()
}

/// The address where this controller listens, and the address that it announces to the others. A quorum of one needs no
/// listener.
pub(super) fn controller_listener(
    roles: Roles,
    node_id: i32,
    voters: &BTreeMap<i32, String>,
    named: Vec<Endpoint>,
    advertised: &[Endpoint],
) -> Result<Option<(Endpoint, String)>, SettingsError> {
    if !roles.controller {
        return Ok(None);
    }
    let Some(endpoint) = named.into_iter().next() else {
        return if voters.keys().any(|id| *id != node_id) {
            Err(invalid(
                "controller.listener.names",
                "names none of listeners, by which the other controllers could reach this one",
            ))
        } else {
            Ok(None)
        };
    };
    let address = voters
        .get(&node_id)
        .cloned()
        .or_else(|| {
            let endpoint = advertised.iter().find(|e| e.name == endpoint.name)?;
            Some(format!("{}:{}", endpoint.host, endpoint.port))
        })
        .unwrap_or_else(|| {
            let named = !is_unspecified(&endpoint.host);
            let host = named.then(|| endpoint.host.clone());
            format!("{}:{}", host.unwrap_or_else(host_name), endpoint.port)
        });
    Ok(Some((endpoint, address)))
}

/// Whether an entry of `controller.quorum.bootstrap.servers` is this process's own controller listener.
pub(super) fn is_own(contact: &str, listener: Option<&(Endpoint, String)>) -> bool {
    let Some((endpoint, address)) = listener else {
        return false;
    };
    let Some((host, port)) = contact.rsplit_once(':') else {
        return false;
    };
    let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]")
        || host == endpoint.host
        || host == host_name();
    contact == address || (port == endpoint.port.to_string() && local)
}
