//! The wildcard filters, by level: which of them take a topic is found without looking at the others.
//!
//! The work for one topic is bounded by the nodes that agree with its levels, not by the number of filters. It is not
//! recursive: a topic may have hundreds of levels.

use everywire_base::topic::{Pattern, Topic, hash_name};
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::floor::chunked::Chunked;

/// The name of a list of subscribers, as long as it has some.
pub(super) type ListId = u32;

/// No list, and no node.
pub(super) const NONE: u32 = u32::MAX;

const ROOT: u32 = 0;

/// Patterns, each with the list of its subscribers.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Chunked<Node>,
    free: Vec<u32>,
    /// The number of nodes that were ever in use.
    used: u32,
    /// The nodes by parent and level.
    edges: HashTable<u32>,
    patterns: u32,
}

#[derive(Debug)]
struct Node {
    parent: u32,
    level: Box<str>,
    children: u32,
    /// The child of the level `+`.
    plus: u32,
    /// The pattern that ends here.
    here: ListId,
    /// The pattern that goes on with `#`.
    below: ListId,
}

impl Default for Node {
    fn default() -> Self {
        Self { parent: NONE, level: Box::default(), children: 0, plus: NONE, here: NONE, below: NONE }
    }
}

fn edge_hash(parent: u32, level: &str) -> u64 {
    hash_name(level) ^ u64::from(parent).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Default for Trie {
    fn default() -> Self {
        let mut nodes = Chunked::default();
        let _root: &mut Node = nodes.reach(ROOT);
        Self { nodes, free: Vec::new(), used: 1, edges: HashTable::new(), patterns: 0 }
    }
}

impl Trie {
    /// The list of a pattern.
    pub(crate) fn get(&self, pattern: &Pattern) -> Option<ListId> {
        let (path, ends_below) = split(pattern);
        let mut node = ROOT;
        for level in path {
            node = self.child(node, level)?;
        }
        let node = self.node(node);
        let list = if ends_below { node.below } else { node.here };
        (list != NONE).then_some(list)
    }

    /// Adds a pattern that isn't there.
    pub(crate) fn insert(&mut self, pattern: &Pattern, list: ListId) {
        let (path, ends_below) = split(pattern);
        let mut node = ROOT;
        for level in path {
            node = match self.child(node, level) {
                Some(child) => child,
                None => self.grow(node, level),
            };
        }
        let node = self.nodes.reach(node);
        *(if ends_below { &mut node.below } else { &mut node.here }) = list;
        self.patterns += 1;
    }

    /// Removes a pattern that is there.
    pub(crate) fn remove(&mut self, pattern: &Pattern) {
        let (path, ends_below) = split(pattern);
        let mut at = ROOT;
        for level in path {
            let Some(child) = self.child(at, level) else { return };
            at = child;
        }
        let node = self.nodes.reach(at);
        *(if ends_below { &mut node.below } else { &mut node.here }) = NONE;
        self.patterns -= 1;
        self.prune(at);
    }

    /// Appends the lists of all patterns that take the topic.
    pub(super) fn matching(&self, topic: &Topic, lists: &mut SmallVec<[ListId; 4]>) {
        if self.patterns == 0 {
            return;
        }
        let mut nodes: SmallVec<[u32; 16]> = SmallVec::new();
        let mut next: SmallVec<[u32; 16]> = SmallVec::new();
        nodes.push(ROOT);
        let mut out_of_reach = topic.is_reserved();
        for level in topic.as_str().split('/') {
            for at in nodes.drain(..) {
                let node = self.node(at);
                next.extend(self.child(at, level));
                if !out_of_reach {
                    next.extend(Some(node.plus).filter(|p| *p != NONE));
                    lists.extend(Some(node.below).filter(|l| *l != NONE));
                }
            }
            if next.is_empty() {
                return;
            }
            out_of_reach = false;
            std::mem::swap(&mut nodes, &mut next);
        }
        for at in nodes {
            let node = self.node(at);
            lists.extend([node.here, node.below].into_iter().filter(|l| *l != NONE));
        }
    }

    fn node(&self, at: u32) -> &Node {
        self.nodes.get(at).expect("nodes in use are there")
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        let same = |at: &u32| {
            let node = self.node(*at);
            node.parent == parent && *node.level == *level
        };
        self.edges.find(edge_hash(parent, level), same).copied()
    }

    fn grow(&mut self, parent: u32, level: &str) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        });
        *self.nodes.reach(at) = Node { parent, level: level.into(), ..Node::default() };
        let above = self.nodes.reach(parent);
        above.children += 1;
        if level == "+" {
            above.plus = at;
        }
        let nodes = &self.nodes;
        let rehash = |at: &u32| nodes.get(*at).map_or(0, |n| edge_hash(n.parent, &n.level));
        self.edges.insert_unique(edge_hash(parent, level), at, rehash);
        at
    }

    /// Removes the nodes that carry nothing any more, upwards.
    fn prune(&mut self, mut at: u32) {
        while at != ROOT {
            let node = self.node(at);
            if node.children > 0 || node.here != NONE || node.below != NONE {
                return;
            }
            let hash = edge_hash(node.parent, &node.level);
            if let Ok(edge) = self.edges.find_entry(hash, |other| *other == at) {
                edge.remove();
            }
            let Node { parent, level, .. } = std::mem::take(self.nodes.reach(at));
            self.free.push(at);
            let above = self.nodes.reach(parent);
            above.children -= 1;
            if *level == *"+" {
                above.plus = NONE;
            }
            at = parent;
        }
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.edges.is_empty() && self.patterns == 0 && self.node(ROOT).children == 0
    }
}

/// The levels down to a pattern's node, and whether it takes all that is below.
fn split(pattern: &Pattern) -> (impl Iterator<Item = &str>, bool) {
    let text = pattern.as_str();
    let ends_below = text == "#" || text.ends_with("/#");
    let levels = text.split('/').count() - usize::from(ends_below);
    (text.split('/').take(levels), ends_below)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use everywire_base::topic::Filter;
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Option<Pattern> {
        match Filter::parse(text).ok()? {
            Filter::Wild(pattern) => Some(pattern),
            Filter::Exact(_) => None,
        }
    }

    fn level() -> impl Strategy<Value = &'static str> {
        proptest::sample::select(vec!["a", "b", "", "+", "user", "$x"])
    }

    proptest! {
        #[test]
        fn the_trie_agrees_with_each_filter(
            patterns in proptest::collection::vec((proptest::collection::vec(level(), 1..4), any::<bool>()), 1..20),
            topics in proptest::collection::vec(proptest::collection::vec(level(), 1..5), 1..20),
            removed in 0usize..20,
        ) {
            let texts: BTreeSet<String> =
                patterns.into_iter().map(|(levels, hash)| levels.join("/") + if hash { "/#" } else { "" }).collect();
            let mut kept: Vec<Pattern> = texts.iter().filter_map(|t| pattern(t)).collect();
            kept.extend(pattern("#"));
            let mut trie = Trie::default();
            for (list, pattern) in kept.iter().enumerate() {
                trie.insert(pattern, list as u32);
            }
            for pattern in kept.drain(..removed.min(kept.len())).collect::<Vec<_>>() {
                trie.remove(&pattern);
            }
            for topic in topics.iter().filter_map(|t| Topic::parse(&t.join("/")).ok()) {
                let mut found = SmallVec::new();
                trie.matching(&topic, &mut found);
                let found: Vec<u32> = found.to_vec();
                let mut expected: Vec<u32> =
                    kept.iter().filter(|p| p.matches(&topic)).filter_map(|p| trie.get(p)).collect();
                let mut sorted = found.clone();
                sorted.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(sorted, expected, "{}", topic);
            }
            for pattern in &kept {
                trie.remove(pattern);
            }
            prop_assert!(trie.is_empty());
        }
    }
}
