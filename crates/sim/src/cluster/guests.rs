//! The clients of a world of several nodes. Each is at one of them, leaves it, and goes on at another one.

use std::collections::BTreeMap;

use everywire_base::topic::Topic;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::place::{NODES, Place};
use crate::checker::{Checker, Loss};
use crate::client::{Ghost, Publisher, Reader, Transport};
use crate::member::Member;
use crate::mortal::Mortal;
use crate::net::Leave;
use crate::world;

/// The number of bytes that a client reads at most when it has the time.
const ALL: usize = usize::MAX;

/// A client, and the node at which it is.
struct Guest<T> {
    at: usize,
    client: T,
}

/// The clients.
pub(super) struct Guests {
    readers: Vec<Guest<Reader>>,
    publishers: Vec<Guest<Publisher>>,
    members: Vec<Guest<Member>>,
    mortals: Vec<Guest<Mortal>>,
    /// The number of mortals so far.
    born: usize,
    ghosts: Vec<Ghost>,
    /// The nodes that vouch for the messages that they have acknowledged.
    pub(super) vouched: BTreeMap<u64, usize>,
    padding: usize,
}

/// The nodes to which clients come, those who judge what they get, and chance.
pub(super) struct Around<'a> {
    pub(super) places: &'a [Place],
    pub(super) checker: &'a mut Checker,
    pub(super) random: &'a mut ChaCha8Rng,
}

impl Around<'_> {
    /// The node to which a client comes that was at this one.
    fn next_place(&mut self, at: usize) -> usize {
        let lives = |place: usize| self.places[place].takes_clients();
        let other = self.random.random_range(0..NODES);
        let stays = self.random.random_bool(0.5) && lives(at);
        let order = [if stays { at } else { other }, other, (other + 1) % NODES, (other + 2) % NODES];
        order.into_iter().find(|place| lives(*place)).unwrap_or(other)
    }
}

impl Guests {
    pub(super) fn new(random: &mut ChaCha8Rng, checker: &mut Checker) -> Self {
        let loss = checker.loss;
        let once = random.random_bool(0.5) && loss != Loss::End;
        let transports = transports(loss, once);
        let guest = |at: usize| at % NODES;
        let readers = (0..random.random_range(2..7))
            .map(|n| Guest { at: guest(n), client: world::new_reader(n, &transports, random, checker) })
            .collect();
        let publishers = (0..random.random_range(2..7))
            .map(|n| {
                let client = world::new_publisher(n, once, random);
                Guest { at: guest(n), client: if loss == Loss::End { Publisher::over_http() } else { client } }
            })
            .collect();
        let most_members = if loss == Loss::Nothing { 4 } else { 1 };
        let members = (0..random.random_range(0..most_members))
            .map(|n| Guest { at: guest(n), client: Member::new(n, n == 0 || random.random_bool(0.5)) })
            .collect();
        let (mortals, ghosts, vouched) = (Vec::new(), Vec::new(), BTreeMap::new());
        let padding = random.random_range(0..60);
        Self { readers, publishers, members, mortals, born: 0, ghosts, vouched, padding }
    }

    /// Lets a client do its next step.
    pub(super) fn advance(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        let most = around.random.random_range(1..2000);
        match around.random.random_range(0..6) {
            5 => self.step_mortals(around),
            0 if !self.members.is_empty() && around.random.random_bool(0.4) => {
                let number = around.random.random_range(0..self.members.len());
                self.step_member(number, most, around)
            }
            0 | 1 => {
                let number = around.random.random_range(0..self.publishers.len());
                self.step_publisher(number, around)
            }
            _ => {
                let number = around.random.random_range(0..self.readers.len());
                self.step_reader(number, most, around)
            }
        }
    }

    /// Lets all clients do their next step, but those who never come back.
    pub(super) fn advance_all(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        (0..self.publishers.len()).try_for_each(|number| self.step_publisher(number, around))?;
        (0..self.readers.len()).try_for_each(|number| self.step_reader(number, ALL, around))?;
        self.ghosts.iter_mut().try_for_each(|ghost| ghost.haunt(&mut around.places[ghost.at].network()))?;
        (0..self.members.len()).try_for_each(|number| self.step_member(number, ALL, around))
    }

    fn step_reader(&mut self, number: usize, most: usize, around: &mut Around<'_>) -> Result<(), String> {
        let Guest { at, client } = &mut self.readers[number];
        if client.link.is_none() {
            *at = around.next_place(*at);
        }
        let place = &around.places[*at];
        if around.checker.loss == Loss::Past {
            around.checker.floor = place.floor();
            if client.is_beginning() {
                around.checker.begins(number, place.floor());
            }
        }
        client.step(&mut place.network(), around.checker, most)?;
        if client.is_in() {
            let head = place.node.as_ref().map(|node| node.head().0);
            let own = self.ghosts.iter_mut().filter(|ghost| ghost.reader == number && ghost.up_to.is_none());
            own.for_each(|ghost| ghost.up_to = head);
        }
        Ok(())
    }

    /// Lets those who never come back live, and others come; and looks at connections that were left.
    fn step_mortals(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        for ghost in &mut self.ghosts {
            ghost.haunt(&mut around.places[ghost.at].network())?;
        }
        if self.mortals.len() < 2 && around.random.random_bool(0.2) {
            let at = around.next_place(self.born % NODES);
            self.born += 1;
            self.mortals.push(Guest { at, client: Mortal::new(self.born) });
        }
        for Guest { at, mut client } in std::mem::take(&mut self.mortals) {
            let mut network = around.places[at].network();
            if client.step(&mut network, around.checker)? {
                drop(network);
                self.mortals.push(Guest { at, client });
            } else {
                client.die(&mut network, around.checker);
            }
        }
        Ok(())
    }

    fn step_publisher(&mut self, number: usize, around: &mut Around<'_>) -> Result<(), String> {
        let Guest { at, client } = &mut self.publishers[number];
        if client.link.is_none() {
            *at = around.next_place(*at);
        }
        let before = client.number;
        client.step(&mut around.places[*at].network(), around.checker, self.padding)?;
        if let Some(number) = before.filter(|_| client.number.is_none()) {
            self.vouched.insert(number, *at);
        }
        Ok(())
    }

    fn step_member(&mut self, number: usize, most: usize, around: &mut Around<'_>) -> Result<(), String> {
        let Guest { at, client } = &mut self.members[number];
        if client.link.is_none() {
            *at = around.next_place(*at);
        }
        client.step(&mut around.places[*at].network(), around.checker, most)
    }

    /// Gives each idle publisher a message.
    pub(super) fn publish_more(&mut self, around: &mut Around<'_>) {
        for Guest { client, .. } in self.publishers.iter_mut().filter(|p| p.client.number.is_none()) {
            let topic = world::TOPICS[around.random.random_range(0..world::TOPICS.len())];
            client.number = Some(around.checker.promise(Topic::parse(topic).expect("a topic")));
        }
    }

    /// Whether everything was published.
    pub(super) fn are_idle(&self) -> bool {
        self.publishers.iter().all(|publisher| publisher.client.number.is_none())
    }

    /// Lets a reader read nothing for a while.
    pub(super) fn stall(&mut self, random: &mut ChaCha8Rng) {
        let reader = random.random_range(0..self.readers.len());
        self.readers[reader].client.stalled = random.random_range(0..300);
    }

    /// Cuts the connection of a client: it comes back, perhaps to another node.
    pub(super) fn cut(&mut self, around: &mut Around<'_>) {
        let how = [Leave::Closed, Leave::Cut, Leave::Silently][around.random.random_range(0..3)];
        let (readers, publishers) = (self.readers.len(), self.publishers.len());
        let number = around.random.random_range(0..readers + publishers + self.members.len() + self.mortals.len());
        let network = |at: usize| around.places[at].network();
        if number >= readers + publishers + self.members.len() {
            let Guest { at, client } = self.mortals.swap_remove(number - readers - publishers - self.members.len());
            client.die(&mut network(at), around.checker);
        } else if number < readers {
            let Guest { at, client } = &mut self.readers[number];
            self.ghosts.extend(Ghost::of(client, *at).filter(|_| how == Leave::Silently));
            client.disconnect(&mut network(*at), how);
        } else if number < readers + publishers {
            let Guest { at, client } = &mut self.publishers[number - readers];
            client.disconnect(&mut network(*at), how, around.checker);
        } else {
            let Guest { at, client } = &mut self.members[number - readers - publishers];
            client.disconnect(&mut network(*at), how);
        }
    }

    /// Lets all read again, and those who never come back go.
    pub(super) fn calm_down(&mut self, around: &mut Around<'_>) {
        self.readers.iter_mut().for_each(|reader| reader.client.stalled = 0);
        for Guest { at, client } in std::mem::take(&mut self.mortals) {
            client.die(&mut around.places[at].network(), around.checker);
        }
    }
}

/// The transports of the readers of a world.
fn transports(loss: Loss, once: bool) -> Vec<Transport> {
    let fits = |transport: &Transport| match loss {
        Loss::Nothing => once || *transport != Transport::MqttOnce,
        Loss::Past => transport.tells_gaps(),
        // A session goes back to the place where the log was lost, as a shared subscription does.
        Loss::End => transport.tells_gaps() && transport.is_by_cursor(),
    };
    Transport::ALL.into_iter().filter(fits).collect()
}
