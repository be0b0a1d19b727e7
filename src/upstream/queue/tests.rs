use super::*;

fn wants(class: Class, cap: usize) -> Wants {
    Wants { class, slot_below: Some(cap) }
}

fn found() -> Search<()> {
    Search::Found(())
}

/// The names of those who go on when so many slots become free.
fn freed(queue: &mut Queue<&'static str>, slots: usize) -> Vec<&'static str> {
    let mut named = Vec::new();
    for _ in 0..slots {
        queue.release();
        while let Some((name, place)) = queue.next(|_| found()) {
            assert!(place.is_some());
            named.push(name);
        }
    }
    named
}

#[test]
fn those_who_wait_go_on_by_class_and_then_as_they_came() {
    let mut queue = Queue::default();
    assert_eq!(queue.enter(wants(Class::Normal, 2), found), Entered::Placed(()));
    assert_eq!(queue.enter(wants(Class::Normal, 2), found), Entered::Placed(()));
    assert_eq!(queue.enter(wants(Class::High, 2), found), Entered::MustWait, "class is no pass");
    for (name, class) in [
        ("low 1", Class::Low),
        ("normal 1", Class::Normal),
        ("high 1", Class::High),
        ("normal 2", Class::Normal),
        ("high 2", Class::High),
    ] {
        queue.wait(wants(class, 2), 10, || name).unwrap();
    }
    assert_eq!(queue.next(|_| found()), None, "nothing has become free");
    assert_eq!(freed(&mut queue, 3), ["high 1", "high 2", "normal 1"]);
    queue.wait(wants(Class::High, 2), 10, || "high 3").unwrap();
    assert_eq!(freed(&mut queue, 3), ["high 3", "normal 2", "low 1"]);
    assert_eq!((queue.in_flight(), queue.waiting()), (2, 0));
}

#[test]
fn a_full_queue_refuses_but_for_a_higher_class() {
    let mut queue = Queue::default();
    queue.wait(wants(Class::Normal, 0), 3, || "normal 1").unwrap();
    queue.wait(wants(Class::Low, 0), 3, || "low 1").unwrap();
    queue.wait(wants(Class::Low, 0), 3, || "low 2").unwrap();
    assert_eq!(queue.wait(wants(Class::Low, 0), 3, || "low 3"), Err(NoRoom));
    assert_eq!(
        queue.wait(wants(Class::Normal, 0), 3, || "normal 2").unwrap().1,
        Some("low 2"),
        "the last of them"
    );
    assert_eq!(queue.wait(wants(Class::High, 0), 3, || "high 1").unwrap().1, Some("low 1"));
    assert_eq!(queue.wait(wants(Class::High, 0), 3, || "high 2").unwrap().1, Some("normal 2"));
    assert_eq!(queue.wait(wants(Class::Normal, 0), 3, || "normal 3"), Err(NoRoom));
    assert_eq!(queue.waiting(), 3);
    assert_eq!(Queue::default().wait(wants(Class::High, 0), 0, || "none may wait"), Err(NoRoom));
}

#[test]
fn whoever_leaves_makes_room_at_once_and_only_once() {
    let mut queue = Queue::default();
    let (ticket, _) = queue.wait(wants(Class::Normal, 1), 1, || "a").unwrap();
    assert_eq!(queue.leave(ticket), Some("a"));
    assert_eq!(queue.leave(ticket), None);
    let (ticket, _) = queue.wait(wants(Class::Normal, 1), 1, || "b").unwrap();
    assert_eq!(queue.next(|_| found()), Some(("b", Some(()))));
    assert_eq!(queue.leave(ticket), None, "it has its place");
}

#[test]
fn one_that_waits_for_its_own_server_holds_up_nobody() {
    let mut queue = Queue::default();
    for name in ["own", "any", "later"] {
        queue.wait(wants(Class::Normal, 9), 9, || name).unwrap();
    }
    let search = |name: &&str| if *name == "own" { Search::NotForThis } else { found() };
    assert_eq!(queue.next(search), Some(("any", Some(()))));
    // where every server is full, nobody behind the first is asked
    let mut asked = 0;
    let full = |_: &&str| {
        asked += 1;
        Search::<()>::Full
    };
    assert_eq!(queue.next(full), None);
    assert_eq!(asked, 1);
    assert_eq!(queue.next(|_| Search::<()>::Nobody), Some(("own", None)), "told at once");
    assert_eq!(queue.in_flight(), 1, "only who has a place is counted");
}

#[test]
fn who_has_a_slot_already_needs_none() {
    let mut queue = Queue::default();
    assert_eq!(queue.enter(wants(Class::Normal, 1), found), Entered::Placed(()));
    queue.wait(wants(Class::High, 1), 9, || "new").unwrap();
    queue.wait(Wants { class: Class::Admitted, slot_below: None }, 9, || "retry").unwrap();
    assert_eq!(queue.next(|_| found()), Some(("retry", Some(()))));
    assert_eq!(queue.next(|_| found()), None);
    assert_eq!(queue.in_flight(), 1);
}

/// A model beside the queue: what is in flight where, and who waits.
struct World {
    queue: Queue<u64>,
    cap: usize,
    servers: Vec<(usize, usize)>,
    /// By request: its class, and the only server it wants.
    known: std::collections::HashMap<u64, (Class, Option<usize>)>,
    tickets: Vec<(Ticket, u64)>,
    placed: Vec<(u64, usize)>,
}

impl World {
    fn search(servers: &mut [(usize, usize)], own: Option<usize>) -> Search<usize> {
        let free = |(in_flight, cap): &(usize, usize)| in_flight < cap;
        let found = match own {
            Some(own) => free(&servers[own]).then_some(own),
            None => servers.iter().position(free),
        };
        match (found, own) {
            (Some(server), _) => {
                servers[server].0 += 1;
                Search::Found(server)
            }
            (None, Some(_)) => Search::NotForThis,
            (None, None) => Search::Full,
        }
    }

    fn settle(&mut self) {
        let World { queue, servers, known, .. } = self;
        while let Some((id, place)) = queue.next(|id| Self::search(servers, known[id].1)) {
            let (class, own) = known[&id];
            // nobody of the same kind was passed over
            let same_kind = self.tickets.iter().filter(|(_, other)| known[other].1 == own);
            let first = same_kind.min_by_key(|(ticket, _)| *ticket).map(|(_, other)| *other);
            assert_eq!(first, Some(id), "{id} of {class:?} was before its turn");
            self.tickets.retain(|(_, other)| *other != id);
            self.placed.push((id, place.expect("somebody is always there")));
        }
    }

    fn check(&self) {
        assert!(self.queue.in_flight() <= self.cap, "{} in flight", self.queue.in_flight());
        assert_eq!(self.queue.in_flight(), self.placed.len());
        assert_eq!(self.queue.waiting(), self.tickets.len());
        for (in_flight, cap) in &self.servers {
            assert!(in_flight <= cap);
        }
        // nobody is forgotten: who waits could not be placed
        if self.queue.in_flight() < self.cap {
            for (_, id) in &self.tickets {
                let mut servers = self.servers.clone();
                let search = Self::search(&mut servers, self.known[id].1);
                assert!(!matches!(search, Search::Found(_)), "{id} waits although there is room");
            }
        }
    }
}

#[test]
fn simulation_of_thousands_of_histories() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    println!("seed {seed}");
    for _ in 0..2000 {
        let servers = (0..random.usize(1..4)).map(|_| (0, random.usize(1..4))).collect();
        let mut world = World {
            queue: Queue::default(),
            cap: random.usize(1..8),
            servers,
            known: Default::default(),
            tickets: Vec::new(),
            placed: Vec::new(),
        };
        let longest = random.usize(0..6);
        for id in 0..random.u64(1..60) {
            match random.u8(0..10) {
                0..6 => {
                    let class = *random.choice(&[Class::High, Class::Normal, Class::Low]).unwrap();
                    let own = random.bool().then(|| random.usize(0..world.servers.len()));
                    world.known.insert(id, (class, own));
                    let wants = wants(class, world.cap);
                    let World { queue, servers, .. } = &mut world;
                    match queue.enter(wants, || World::search(servers, own)) {
                        Entered::Placed(server) => world.placed.push((id, server)),
                        Entered::MustWait => match world.queue.wait(wants, longest, || id) {
                            Ok((ticket, out)) => {
                                world.tickets.retain(|(_, other)| Some(*other) != out);
                                world.tickets.push((ticket, id));
                            }
                            Err(NoRoom) => assert_eq!(world.tickets.len(), longest, "seed {seed}"),
                        },
                        Entered::Nobody => unreachable!(),
                    }
                }
                6..9 if !world.placed.is_empty() => {
                    let (_, server) = world.placed.swap_remove(random.usize(0..world.placed.len()));
                    world.servers[server].0 -= 1;
                    world.queue.release();
                    world.settle();
                }
                _ if !world.tickets.is_empty() => {
                    let (ticket, id) = world.tickets.swap_remove(random.usize(0..world.tickets.len()));
                    assert_eq!(world.queue.leave(ticket), Some(id), "seed {seed}");
                }
                _ => {}
            }
            world.check();
        }
        // all come to their end
        while let Some((_, server)) = world.placed.pop() {
            world.servers[server].0 -= 1;
            world.queue.release();
            world.settle();
            world.check();
        }
        assert_eq!((world.queue.in_flight(), world.queue.waiting()), (0, 0), "seed {seed}");
    }
}
