use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

const SILENCE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(5);

/// Two ends of a connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn is_closed(mut theirs: &TcpStream) -> bool {
    theirs.read(&mut [0]).is_ok_and(|read| read == 0)
}

/// A patrol that goes round when the test says so.
fn patrol() -> Arc<Patrol> {
    let patrol = Arc::new(Patrol::default());
    patrol.0.lock().walks = true;
    patrol
}

fn watch(patrol: &Arc<Patrol>, ours: &TcpStream, reused: bool) -> Watched {
    patrol.watch((ours.as_raw_fd(), reused), (SILENCE, IDLE)).unwrap()
}

fn go_round(patrol: &Patrol, time: Duration) -> bool {
    (0..rounds(time)).map(|_| patrol.0.lock().go_round()).last().unwrap()
}

#[test]
fn a_silent_server_finds_its_connection_closed() {
    let (patrol, (ours, theirs)) = (patrol(), pair());
    let watched = watch(&patrol, &ours, false);
    go_round(&patrol, SILENCE);
    assert!(watched.bark().is_none() && !is_closed(&theirs));
    watched.heard();
    go_round(&patrol, SILENCE);
    assert!(watched.bark().is_none() && !is_closed(&theirs));
    go_round(&patrol, ROUND);
    let bark = watched.bark().unwrap();
    assert_eq!(bark, Bark { phase: Some(Phase::Silence), allowed: SILENCE });
    assert!(is_closed(&theirs));
    drop(watched);
    assert!(!go_round(&patrol, ROUND), "nobody is left");
}

#[test]
fn a_server_that_was_not_listened_to_is_excused() {
    let (patrol, (ours, mut theirs)) = (patrol(), pair());
    let watched = watch(&patrol, &ours, false);
    theirs.write_all(b"x").unwrap();
    go_round(&patrol, 3 * SILENCE);
    assert!(watched.bark().is_none());
    (&ours).read_exact(&mut [0]).unwrap();
    go_round(&patrol, SILENCE + ROUND);
    assert!(watched.bark().is_some());
}

#[test]
fn a_connection_out_of_use_is_closed_unless_another_try_has_it() {
    let (patrol, (ours, theirs)) = (patrol(), pair());
    drop(watch(&patrol, &ours, false));
    go_round(&patrol, IDLE);
    let first = watch(&patrol, &ours, true);
    // its answer ends late, when another try has the connection
    let second = watch(&patrol, &ours, true);
    drop(first);
    go_round(&patrol, IDLE + ROUND);
    assert!(!is_closed(&theirs));
    drop(second);
    go_round(&patrol, IDLE);
    assert!(!is_closed(&theirs));
    assert!(!go_round(&patrol, ROUND), "nobody is left");
    assert!(is_closed(&theirs));
}

#[test]
fn another_socket_under_the_same_number_is_left_alone() {
    let (patrol, (ours, _), (other, theirs)) = (patrol(), pair(), pair());
    drop(watch(&patrol, &ours, false));
    let mut number = OwnedFd::from(ours);
    nix::unistd::dup2(&other, &mut number).unwrap();
    let ours = TcpStream::from(number);
    assert!(!go_round(&patrol, IDLE + ROUND), "nobody is left");
    assert!(!is_closed(&theirs));
    // nor is its number taken for what it was
    patrol.0.lock().walks = true;
    let watched = watch(&patrol, &ours, true);
    go_round(&patrol, SILENCE + ROUND);
    assert!(watched.bark().is_some() && is_closed(&theirs));
}

#[test]
fn what_others_see_to_is_left_alone() {
    let (patrol, (ours, theirs)) = (patrol(), pair());
    let watched = watch(&patrol, &ours, false);
    patrol.leave(ours.as_raw_fd());
    assert!(!go_round(&patrol, SILENCE + ROUND));
    assert!(watched.bark().is_none() && !is_closed(&theirs));
}

#[test]
fn short_deadlines_are_for_timers() {
    assert!(!can_see_to(Duration::from_secs(4), IDLE));
    assert!(!can_see_to(SILENCE, Duration::from_millis(100)));
    assert_eq!(can_see_to(SILENCE, IDLE), cfg!(target_os = "linux"));
}
