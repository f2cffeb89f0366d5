use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A mail server that takes everything and remembers it.
#[derive(Debug)]
pub struct Mailbox {
    pub address: SocketAddr,
    mails: Arc<Mutex<Vec<String>>>,
}

impl Mailbox {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&mails);
        // Ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = talk(&stream, &taken);
            }
        });
        Self { address, mails }
    }

    /// All mails so far, envelopes before headers and texts.
    pub fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap().clone()
    }
}

fn talk(stream: &TcpStream, mails: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut say = stream;
    let mut mail = String::new();
    let mut is_text = false;
    say.write_all(b"220 mailbox\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if is_text {
            if line == "." {
                is_text = false;
                mails.lock().unwrap().push(std::mem::take(&mut mail));
                say.write_all(b"250 taken\r\n")?;
            } else {
                mail.push_str(&line);
                mail.push('\n');
            }
            continue;
        }
        let answer: &[u8] = match line.get(..4).unwrap_or("") {
            "DATA" => {
                is_text = true;
                b"354 go on\r\n"
            }
            "QUIT" => return say.write_all(b"221 bye\r\n"),
            "MAIL" | "RCPT" => {
                mail.push_str(&line);
                mail.push('\n');
                b"250 ok\r\n"
            }
            _ => b"250 ok\r\n",
        };
        say.write_all(answer)?;
    }
    Ok(())
}
