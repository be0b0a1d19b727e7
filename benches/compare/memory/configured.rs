//! What a route and a server cost that are in the configuration: a process that has thousands of them beside one that has
//! two. Called by `memory`.

use anyhow::Result;

use super::{Started, Subject};
use crate::common::client::{connect, get};
use crate::common::many::{self, Places, Size, VERSION};
use crate::proxies::Site;

/// What the others are compared with.
const FEW: usize = 2;

/// Bytes for each.
pub fn each(subject: &Subject<'_>, size: impl Fn(usize) -> Size) -> Result<f64> {
    let many = usize::try_from(subject.options.count)?;
    let few = start(subject, size(FEW))?.at_rest()?;
    let all = start(subject, size(many))?.at_rest()?;
    Ok(all.saturating_sub(few) as f64 / (many - FEW) as f64)
}

fn start(subject: &Subject<'_>, size: Size) -> Result<Started> {
    let conf = |site: &Site| {
        let places = Places { dir: &site.dir, address: site.plain, origin: site.origin };
        many::write(subject.program, size, 0, places)
    };
    subject.start(&format!("{}-{}", size.routes, size.servers), conf, |site| answers(size, site))
}

/// It has read its configuration, and the route in the middle leads to the origin.
fn answers(size: Size, site: &Site) -> Result<()> {
    get(&mut connect(site.plain)?, VERSION)?;
    // of many servers only the first listens, and each program has its own turn
    if size.servers == 1 {
        get(&mut connect(site.plain)?, &size.path())?;
    }
    Ok(())
}
