//! The sections `[[bridge]]`: messages from Kafka's topics in, and messages out to them.

use std::ops::Range;

use everywire_base::bridge::{
    Access, Begin, Bridge, Brokers, Inward, KafkaTopic, Login, Mechanism, Outward, Template, Trust, Way,
    check_bridge_name, circle,
};
use everywire_base::limits::Limits;
use everywire_base::publish::check_name;
use everywire_base::topic::Filter;

use super::complaint::{Complaint, Place};
use super::reader::{self, Fault, Fields, Reader, Value};
use super::settings::EngineKind;
use super::{topics, units};

/// The content of the sections.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Bridges {
    /// The bridges.
    pub(crate) all: Vec<Bridge>,
    /// The place of each bridge in the file.
    places: Vec<Place>,
    /// The complaints that hold unless the engine is Kafka.
    without_kafka: Vec<Complaint>,
}

impl Bridges {
    /// The bridges, given this engine.
    pub(super) fn with(mut self, engine: &EngineKind) -> Result<Vec<Bridge>, Vec<Complaint>> {
        let EngineKind::Kafka(address) = engine else {
            return if self.without_kafka.is_empty() { Ok(self.all) } else { Err(self.without_kafka) };
        };
        for bridge in self.all.iter_mut().filter(|bridge| bridge.access.brokers.is_engine()) {
            let Access { brokers, tls, login } = address.access.clone();
            bridge.access.brokers = brokers;
            bridge.access.tls = bridge.access.tls.take().or(tls);
            bridge.access.login = bridge.access.login.take().or(login);
        }
        let own = |(bridge, place): (&Bridge, &Place)| {
            let topic = bridge.topics().into_iter().find(|topic| address.has(&bridge.access.brokers, topic))?;
            let what = format!("the bridge {:?} names {}, which is the engine's own", bridge.name, topic.as_str());
            Some(Complaint { place: place.clone(), what })
        };
        let mut wrong: Vec<Complaint> = self.all.iter().zip(&self.places).filter_map(own).collect();
        // Only now all clusters are known.
        wrong.extend(round(&self.all).map(|(last, what)| Complaint { place: self.places[last].clone(), what }));
        if wrong.is_empty() { Ok(self.all) } else { Err(wrong) }
    }
}

/// Reads all bridges, and complains about those that carry their own messages in a circle.
pub(super) fn read<'t>(reader: &mut Reader<'t>, value: &Value<'t>, limits: &Limits) -> Bridges {
    let Some(entries) = value.get_ref().as_array() else {
        reader.complain(value.span(), "bridge is not a list of tables: write each bridge as [[bridge]]".into());
        return Bridges::default();
    };
    let (mut bridges, mut places): (Vec<Bridge>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
    let mut without_kafka = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let Some(bridge) = bridge(reader, &format!("bridge[{i}]"), entry) else { continue };
        if bridges.iter().any(|other| other.name == bridge.name) {
            let what =
                format!("bridge[{i}]: there is another bridge {:?}: give one of them another `name`", bridge.name);
            reader.complain(entry.span(), what);
        }
        if i >= limits.bridges {
            let what = format!("bridge[{i}]: there are more than {} bridges (limits.bridges)", limits.bridges);
            reader.complain(entry.span(), what);
        }
        if bridge.access.brokers.is_engine() {
            let what = "where Kafka is, like \"127.0.0.1:9092\"";
            without_kafka.push(reader.complaint(entry.span(), format!("bridge[{i}]: `brokers` is missing: {what}")));
        }
        bridges.push(bridge);
        places.push(entry.span());
    }
    if let Some((last, what)) = round(&bridges) {
        reader.complain(places[last].clone(), what);
    }
    let places = places.into_iter().map(|at| reader.complaint(at, String::new()).place).collect();
    Bridges { all: bridges, places, without_kafka }
}

/// The last of the bridges that carry their own messages in a circle, with what is wrong.
fn round(bridges: &[Bridge]) -> Option<(usize, String)> {
    let path = circle(bridges)?;
    let last = path.last().copied()?;
    let names: Vec<_> = path.iter().chain(path.first()).map(|i| format!("{:?}", bridges[*i].name)).collect();
    let what = format!(
        "bridge[{last}]: messages would go round for ever, from bridge to bridge: {}; choose topics and filters that \
         don't meet",
        names.join(" → ")
    );
    Some((last, what))
}

fn bridge<'t>(reader: &mut Reader<'t>, path: &str, value: &Value<'t>) -> Option<Bridge> {
    let mut fields = reader.table(path, value)?;
    let name = fields.take(reader, "name", parsed(check_bridge_name));
    let access = access(reader, &mut fields, path, value);
    let (is_in, is_out) = (fields.raw("from").is_some(), fields.raw("filter").is_some());
    let way = match (is_in, is_out) {
        (true, false) => inward(reader, &mut fields, path, value).map(Way::In),
        (false, true) => outward(reader, &mut fields, path, value).map(Way::Out),
        _ => {
            let what = "a bridge has `from` and `topic`, for what comes in, or `filter` and `to`, for what goes out";
            reader.complain(value.span(), format!("{path}: {what}"));
            None
        }
    };
    let all = ["from", "topic", "retain", "type", "dead_letter", "filter", "to", "start"];
    if is_in == is_out {
        for name in all {
            fields.raw(name);
        }
    }
    fields.end(reader);
    let (access, way) = (access?, way?);
    let usual = match &way {
        Way::In(rule) => rule.from.as_str(),
        Way::Out(rule) => rule.to.as_str(),
    };
    Some(Bridge { name: name.unwrap_or_else(|| usual.into()), access, way })
}

fn inward<'t>(reader: &mut Reader<'t>, fields: &mut Fields<'_, 't>, path: &str, value: &Value<'t>) -> Option<Inward> {
    needs(reader, fields, path, value, &[("topic", "where its records are published, like \"order/{key}\"")]);
    let from = fields.take(reader, "from", parsed(KafkaTopic::parse));
    let topic = fields.take(reader, "topic", parsed(Template::parse));
    let start = fields.take(reader, "start", topics::word(STARTS)).unwrap_or(Begin::Earliest);
    let retain = fields.take(reader, "retain", reader::flag).unwrap_or(false);
    let named = |text: &str| check_name(text, "type").map(|()| text.into()).map_err(|error| error.to_string());
    let content_type = fields.take(reader, "type", reader::text(named));
    let dead_letter = fields.take(reader, "dead_letter", parsed(KafkaTopic::parse));
    Some(Inward { from: from?, topic: topic?, start, retain, content_type, dead_letter })
}

fn outward<'t>(reader: &mut Reader<'t>, fields: &mut Fields<'_, 't>, path: &str, value: &Value<'t>) -> Option<Outward> {
    needs(reader, fields, path, value, &[("to", "the topic of Kafka's")]);
    let filter = fields.take(reader, "filter", reader::text(filter));
    let to = fields.take(reader, "to", parsed(KafkaTopic::parse));
    let start = fields.take(reader, "start", topics::word(STARTS)).unwrap_or(Begin::Latest);
    Some(Outward { filter: filter?, to: to?, start })
}

fn filter(text: &str) -> Result<Filter, String> {
    if text.starts_with('$') {
        return Err(format!("topics that begin with $ are the server's, {text:?} takes none but those"));
    }
    Filter::parse(text).map_err(|error| error.to_string())
}

/// The address of Kafka, and the login there.
fn access<'t>(reader: &mut Reader<'t>, fields: &mut Fields<'_, 't>, path: &str, value: &Value<'t>) -> Option<Access> {
    let brokers = match fields.raw("brokers") {
        Some(_) => fields.take(reader, "brokers", parsed(Brokers::parse)),
        None => Some(Brokers::default()),
    };
    let (has_user, has_password) = (fields.raw("user").is_some(), fields.raw("password").is_some());
    if has_user != has_password {
        reader.complain(value.span(), format!("{path}: `user` and `password` belong together"));
    }
    let user = fields.take(reader, "user", reader::text(units::claim));
    let password = fields.take(reader, "password", reader::text(units::claim));
    let mechanism = fields.take(reader, "mechanism", topics::word(MECHANISMS)).unwrap_or(Mechanism::Scram256);
    let login =
        user.zip(password).map(|(user, password)| Login { mechanism, user: user.into(), password: password.into() });
    let is_tls = fields.take(reader, "tls", reader::flag);
    let authority = fields.take(reader, "ca", reader::text(readable));
    if authority.is_some() && is_tls == Some(false) {
        reader.complain(value.span(), format!("{path}: `ca` says whom TLS trusts, and `tls` that it is off"));
    }
    let tls = match authority {
        Some(file) => Some(Trust::File(file)),
        None => is_tls.unwrap_or(false).then_some(Trust::Web),
    };
    Some(Access { brokers: brokers?, tls, login })
}

/// The path of a file that can be opened.
fn readable(text: &str) -> Result<Box<str>, String> {
    match std::fs::File::open(units::path(text)?) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!("{text} can't be read: {error}")),
    }
}

fn needs<'t>(
    reader: &mut Reader<'t>,
    fields: &mut Fields<'_, 't>,
    path: &str,
    value: &Value<'t>,
    names: &[(&'static str, &str)],
) {
    for (name, what) in names {
        if fields.raw(name).is_none() {
            reader.complain(value.span(), format!("{path}: `{name}` is missing: {what}"));
        }
    }
}

/// A string that is parsed by its own type.
fn parsed<'t, T, E: ToString>(parse: impl Fn(&str) -> Result<T, E>) -> impl Fn(&Value<'t>) -> Result<T, Fault> {
    reader::text(move |text| parse(text).map_err(|error| error.to_string()))
}

const STARTS: topics::Words<Begin> = &[("earliest", Begin::Earliest), ("latest", Begin::Latest)];
const MECHANISMS: topics::Words<Mechanism> =
    &[("PLAIN", Mechanism::Plain), ("SCRAM-SHA-256", Mechanism::Scram256), ("SCRAM-SHA-512", Mechanism::Scram512)];
