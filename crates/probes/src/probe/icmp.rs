//! Echo requests and what comes back, over a datagram socket where the kernel gives one to
//! everybody, else over a raw one.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use super::connect::ConnectError;

/// What came back for one of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reply,
    /// A router on the way let the packet end.
    TimeExceeded,
    Unreachable,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) kind: Kind,
    pub(super) from: IpAddr,
    pub(super) sequence: u16,
    /// Hops that the reply had left, where the socket shows the header.
    pub(super) hop_limit: Option<u8>,
}

/// A socket for one run, whose requests carry a number of their own.
#[derive(Debug)]
pub(super) struct Icmp {
    socket: UdpSocket,
    raw: bool,
    v4: bool,
    id: u16,
    address: IpAddr,
}

/// The longest packet that can come back.
const MAX_PACKET_BYTES: usize = 65_535;

impl Icmp {
    /// `needs_raw`: errors of routers on the way come only to raw sockets.
    pub(super) fn open(address: IpAddr, source: &str, needs_raw: bool) -> Result<Self, ConnectError> {
        let v4 = address.is_ipv4();
        let (domain, protocol) =
            if v4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let datagram = if needs_raw { None } else { Socket::new(domain, Type::DGRAM, Some(protocol)).ok() };
        let raw = datagram.is_none();
        let socket = match datagram {
            Some(socket) => socket,
            None => Socket::new(domain, Type::RAW, Some(protocol)).map_err(if needs_raw {
                ConnectError::NoRawIcmp
            } else {
                ConnectError::NoIcmp
            })?,
        };
        if !source.is_empty() {
            let source: IpAddr = source.parse().map_err(|_| ConnectError::Source(source.to_owned()))?;
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket.into())?;
        // A datagram socket has the number that the kernel gave it.
        let id = if raw { rand::random() } else { socket.local_addr().map(|a| a.port()).unwrap_or(0) };
        Ok(Self { socket, raw, v4, id, address })
    }

    /// Forbids routers to cut the packet; IPv6 never lets them.
    pub(super) fn dont_fragment(&self) -> io::Result<()> {
        if self.v4 {
            rustix::net::sockopt::set_ip_mtu_discover(
                &self.socket,
                rustix::net::sockopt::Ipv4PathMtuDiscovery::DO,
            )?;
        }
        Ok(())
    }

    pub(super) fn set_hop_limit(&self, hops: u32) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.socket);
        if self.v4 { socket.set_ttl_v4(hops) } else { socket.set_unicast_hops_v6(hops) }
    }

    pub(super) async fn send(&self, sequence: u16, payload: &[u8]) -> io::Result<()> {
        let packet = request(self.v4, self.id, sequence, payload);
        self.socket.send_to(&packet, SocketAddr::new(self.address, 0)).await.map(drop)
    }

    /// The next thing that belongs to this socket's requests.
    pub(super) async fn receive(&self) -> io::Result<Event> {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        loop {
            let (length, from) = self.socket.recv_from(&mut buffer).await?;
            let packet = buffer.get(..length).unwrap_or(&[]);
            if let Some(event) = self.read(packet, from.ip()) {
                return Ok(event);
            }
        }
    }

    fn read(&self, packet: &[u8], from: IpAddr) -> Option<Event> {
        let (hop_limit, message) = if self.v4 && self.raw {
            let (header, message) = split_header(packet)?;
            (header.get(8).copied(), message)
        } else {
            (None, packet)
        };
        let kind = kind_of(self.v4, *message.first()?)?;
        let echo = match kind {
            Kind::Reply => message.get(4..8)?,
            // After eight bytes follows the packet that caused it.
            _ if self.v4 => split_header(message.get(8..)?)?.1.get(4..8)?,
            _ => message.get(8 + 40..)?.get(4..8)?,
        };
        let (id, sequence) = (u16::from_be_bytes([echo[0], echo[1]]), u16::from_be_bytes([echo[2], echo[3]]));
        // The kernel gives a datagram socket only what is its own.
        (id == self.id || !self.raw).then_some(Event { kind, from, sequence, hop_limit })
    }
}

fn kind_of(v4: bool, number: u8) -> Option<Kind> {
    match (v4, number) {
        (true, 0) | (false, 129) => Some(Kind::Reply),
        (true, 11) | (false, 3) => Some(Kind::TimeExceeded),
        (true, 3) | (false, 1) => Some(Kind::Unreachable),
        _ => None,
    }
}

/// An IPv4 packet in its header and the rest.
fn split_header(packet: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(packet.first()? & 0x0f) * 4;
    (length >= 20 && packet.len() >= length).then(|| packet.split_at(length))
}

/// An echo request. The kernel fills in the checksum of ICMPv6 itself.
fn request(v4: bool, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![if v4 { 8 } else { 128 }, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend_from_slice(payload);
    if v4 {
        let sum = checksum(&packet).to_be_bytes();
        packet[2] = sum[0];
        packet[3] = sum[1];
    }
    packet
}

/// The Internet's checksum: the complement of the sum of all words, carries added in.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.fold(0u32, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_sums_to_zero() {
        for payload in [&b""[..], b"odd", b"even"] {
            let packet = request(true, 0x1234, 7, payload);
            assert_eq!(checksum(&packet), 0);
            assert_eq!((packet[0], &packet[4..8]), (8, &[0x12, 0x34, 0, 7][..]));
        }
    }

    #[test]
    fn headers_are_taken_off_only_when_whole() {
        let mut packet = vec![0x45; 28];
        assert_eq!(split_header(&packet).map(|(h, m)| (h.len(), m.len())), Some((20, 8)));
        packet[0] = 0x4f;
        assert_eq!(split_header(&packet), None);
        assert_eq!(split_header(&[]), None);
    }
}
