//! The bit-banged master against a slave that sees nothing but two open-drain lines.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use drover_node::BitBangI2c;
use embedded_hal::{
    delay::DelayNs,
    digital::{ErrorType, InputPin, OutputPin},
    i2c::{Error, ErrorKind, I2c, NoAcknowledgeSource, Operation},
};

const ADDRESS: u8 = 0x48;

/// The lines and the slave on them. It records starts, stops and bytes as a logic analyser would.
struct Bus {
    scl: bool,
    sda: bool,
    slave_pulls: bool,
    log: String,
    /// Bits of the byte under way, the ninth being the acknowledge; `None` outside a transfer.
    bits: Option<Vec<bool>>,
    selected: Option<bool>,
    answers: Vec<u8>,
    sent: usize,
    /// The slave holds the data line for this many clock pulses, whatever happens.
    jammed: usize,
    /// The slave holds the clock low for this many reads of it.
    stretches: usize,
}

impl Bus {
    fn new(answers: &[u8]) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            scl: true,
            sda: true,
            slave_pulls: false,
            log: String::new(),
            bits: None,
            selected: None,
            answers: answers.to_vec(),
            sent: 0,
            jammed: 0,
            stretches: 0,
        }))
    }

    fn level(&self) -> bool {
        self.sda && !self.slave_pulls && self.jammed == 0
    }

    fn set_sda(&mut self, high: bool) {
        let before = self.level();
        self.sda = high;
        if self.scl && before != self.level() {
            self.log.push(if high { 'P' } else { 'S' });
            self.bits = (!high).then(Vec::new);
            self.selected = None;
            self.slave_pulls = false;
        }
    }

    fn set_scl(&mut self, high: bool) {
        let was = std::mem::replace(&mut self.scl, high);
        if was && !high {
            self.jammed = self.jammed.saturating_sub(1);
            self.drive();
        } else if !was && high {
            let level = self.level();
            if let Some(bits) = &mut self.bits {
                bits.push(level);
                if bits.len() == 9 {
                    let byte = bits[..8]
                        .iter()
                        .fold(0, |byte, bit| byte << 1 | u8::from(*bit));
                    let mark = if bits[8] { '-' } else { '+' };
                    self.log.push_str(&format!(" {byte:02x}{mark}"));
                }
            }
        }
    }

    /// The clock fell: offer the next bit.
    fn drive(&mut self) {
        let Some(bits) = &mut self.bits else { return };
        if bits.len() == 9 {
            if bits[8] {
                // Nobody acknowledged, or the master has read its last byte: let go.
                self.bits = None;
                self.slave_pulls = false;
                return;
            }
            let byte = bits[..8]
                .iter()
                .fold(0, |byte, bit| byte << 1 | u8::from(*bit));
            if self.selected.is_none() {
                self.selected = (byte >> 1 == ADDRESS).then_some(byte & 1 == 1);
            } else {
                self.sent += usize::from(self.selected == Some(true));
            }
            bits.clear();
        }
        let reading = self.selected == Some(true);
        let at = bits.len();
        self.slave_pulls = match at {
            8 if reading => false,
            8 => {
                let byte = bits.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
                self.selected.is_some() || byte >> 1 == ADDRESS
            }
            _ if reading => self.answers[self.sent] >> (7 - at) & 1 == 0,
            _ => false,
        };
    }
}

struct Pin(Rc<RefCell<Bus>>, bool);

impl ErrorType for Pin {
    type Error = Infallible;
}

impl OutputPin for Pin {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.set(false)
    }
    fn set_high(&mut self) -> Result<(), Infallible> {
        self.set(true)
    }
}

impl Pin {
    fn set(&mut self, high: bool) -> Result<(), Infallible> {
        let mut bus = self.0.borrow_mut();
        if self.1 {
            bus.set_scl(high);
        } else {
            bus.set_sda(high);
        }
        Ok(())
    }
}

impl InputPin for Pin {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        let mut bus = self.0.borrow_mut();
        if !self.1 {
            return Ok(bus.level());
        }
        let held = bus.stretches > 0;
        bus.stretches = bus.stretches.saturating_sub(1);
        Ok(bus.scl && !held)
    }
    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}

struct NoDelay;

impl DelayNs for NoDelay {
    fn delay_ns(&mut self, _: u32) {}
}

fn master(bus: &Rc<RefCell<Bus>>) -> BitBangI2c<Pin, Pin, NoDelay> {
    BitBangI2c::new(Pin(bus.clone(), true), Pin(bus.clone(), false), NoDelay)
}

#[test]
fn a_register_read_is_one_transfer_with_a_repeated_start() {
    let bus = Bus::new(&[0x24, 0x80]);
    let mut register = [0; 2];
    master(&bus)
        .write_read(ADDRESS, &[0], &mut register)
        .unwrap();
    assert_eq!(register, [0x24, 0x80]);
    assert_eq!(bus.borrow().log, "S 90+ 00+S 91+ 24+ 80-P");
}

#[test]
fn neighbours_of_one_direction_share_a_start() {
    let bus = Bus::new(&[1, 2, 3]);
    let (mut first, mut second) = ([0; 1], [0; 2]);
    let mut operations = [
        Operation::Write(&[0xaa]),
        Operation::Write(&[0x55]),
        Operation::Read(&mut first),
        Operation::Read(&mut second),
    ];
    master(&bus).transaction(ADDRESS, &mut operations).unwrap();
    assert_eq!((first, second), ([1], [2, 3]));
    assert_eq!(bus.borrow().log, "S 90+ aa+ 55+S 91+ 01+ 02+ 03-P");
}

#[test]
fn an_absent_device_is_no_acknowledge_of_the_address() {
    let bus = Bus::new(&[]);
    let error = master(&bus).write(0x10, &[0]).unwrap_err();
    let expected = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);
    assert_eq!(error.kind(), expected);
    assert_eq!(bus.borrow().log, "S 20-P", "and the bus is given back");
}

#[test]
fn a_slave_left_in_the_middle_of_a_byte_is_clocked_out() {
    let bus = Bus::new(&[0x19, 0x00]);
    bus.borrow_mut().jammed = 5;
    let mut register = [0; 2];
    master(&bus)
        .write_read(ADDRESS, &[0], &mut register)
        .unwrap();
    assert_eq!(register, [0x19, 0x00]);
}

#[test]
fn a_line_held_for_ever_is_a_bus_error_not_a_hang() {
    let bus = Bus::new(&[]);
    bus.borrow_mut().jammed = usize::MAX;
    let error = master(&bus).write(ADDRESS, &[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bus);
    bus.borrow_mut().jammed = 0;
    bus.borrow_mut().stretches = usize::MAX;
    let error = master(&bus).write(ADDRESS, &[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Bus);
}

#[test]
fn a_stretched_clock_is_waited_for() {
    let bus = Bus::new(&[0x7f, 0x80]);
    bus.borrow_mut().stretches = 20;
    let mut register = [0; 2];
    master(&bus)
        .write_read(ADDRESS, &[0], &mut register)
        .unwrap();
    assert_eq!(register, [0x7f, 0x80]);
}
