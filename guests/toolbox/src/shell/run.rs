//! Running the tree.

use super::state::Slot;
use super::tree::{AndOr, Command, Item, Kind, List, Pipeline, Word};
use super::{Flow, MAX_CALLS, Shell, builtins, pattern};
use crate::sys::{self, End};
use std::rc::Rc;

/// The code of a program that wrote where nobody reads.
const UNHEARD: i32 = 141;

impl Shell {
    pub fn list(&mut self, list: &List) -> Result<(), Flow> {
        for Item { command, background } in &list.0 {
            match background {
                true => self.background(command)?,
                false => self.and_or(command)?,
            }
        }
        Ok(())
    }

    fn and_or(&mut self, list: &AndOr) -> Result<(), Flow> {
        let mut next = Some(&list.first);
        let mut rest = list.rest.iter();
        while let Some(pipeline) = next.take() {
            let last = rest.len() == 0;
            self.tested += u32::from(!last || pipeline.negated);
            let flow = self.pipeline(pipeline);
            self.tested -= u32::from(!last || pipeline.negated);
            flow?;
            if last && !pipeline.negated && ends_on_failure(pipeline) {
                self.check()?;
            }
            next = rest
                .by_ref()
                .find(|(and, _)| *and == (self.status == 0))
                .map(|(_, pipeline)| pipeline);
        }
        Ok(())
    }

    /// Ends the shell where a command failed and `-e` is on.
    fn check(&self) -> Result<(), Flow> {
        match self.status != 0 && self.tested == 0 && self.state.is_on('e') {
            true => Err(Flow::Exit(self.status)),
            false => Ok(()),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline) -> Result<(), Flow> {
        match pipeline.commands.as_slice() {
            [command] => self.command(command)?,
            commands => self.piped(commands)?,
        }
        if pipeline.negated {
            self.status = i32::from(self.status == 0);
        }
        Ok(())
    }

    /// Runs all but one command of a pipeline as other processes, and that one here.
    fn piped(&mut self, commands: &[Rc<Command>]) -> Result<(), Flow> {
        let here = commands.iter().rposition(|command| !self.is_program(command));
        let mut input = None;
        let mut waiting = Vec::new();
        let mut delayed = None;
        for (index, command) in commands.iter().enumerate() {
            let (next, output) = match index + 1 == commands.len() {
                true => (None, None),
                false => {
                    let (source, sink) = End::pair(sys::pipe());
                    (Some(source), Some(sink))
                }
            };
            let mut slots = self.state.slots.clone();
            slots.extend(input.take().map(|input| (0, Slot::Open(input))));
            slots.extend(output.map(|output| (1, Slot::Open(output))));
            input = next;
            if here == Some(index) {
                delayed = Some((command, slots));
                waiting.push(Err(0));
                continue;
            }
            let before = std::mem::replace(&mut self.state.slots, slots);
            let started = match self.is_program(command) {
                true => self.start_program(command, false),
                false => self.start_part(command, false),
            };
            self.state.slots = before;
            waiting.push(started);
        }
        if let (Some((command, slots)), Some(index)) = (delayed, here) {
            let code = self.subshell(|shell| {
                shell.state.slots = slots;
                shell.command(command)?;
                shell.check()
            });
            if let Some(place) = waiting.get_mut(index) {
                *place = Err(code);
            }
        }
        let mut codes = Vec::new();
        for started in waiting {
            codes.push(match started {
                Ok(pid) => self.wait_for(pid),
                Err(code) => code,
            });
        }
        let last = codes.last().copied().unwrap_or_default();
        self.status = match self.state.is_on('o') {
            true => codes.into_iter().rev().find(|code| *code != 0).unwrap_or(0),
            false => last,
        };
        self.run_traps()
    }

    /// Whether a command is a program's name with its arguments, as far as can be seen.
    pub fn is_program(&self, command: &Command) -> bool {
        let Kind::Simple { words, .. } = &command.kind else {
            return false;
        };
        words
            .first()
            .and_then(Word::plain)
            .is_some_and(|name| !self.state.functions.contains_key(name) && builtins::find(name).is_none())
    }

    /// Runs something on a copy of the state, and returns its exit code.
    pub fn subshell(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Flow>) -> i32 {
        let state = self.state.clone();
        let (loops, line) = (std::mem::take(&mut self.loops), self.line);
        let hidden = self.hidden.clone();
        let jobs = std::mem::take(&mut self.jobs);
        let interactive = std::mem::take(&mut self.interactive);
        self.state.traps.retain(|_, action| action.is_empty());
        let flow = work(self);
        let code = self.finish(flow);
        self.state = state;
        self.loops = loops;
        self.line = line;
        self.hidden = hidden;
        self.jobs = jobs;
        self.interactive = interactive;
        code
    }

    /// What a list writes, without the line breaks at its end.
    pub fn capture(&mut self, list: &Rc<List>) -> Result<String, Flow> {
        let (source, sink) = sys::buffer();
        let output = Slot::Open(End::Sink(Rc::new(sink)));
        let code = self.subshell(|shell| {
            shell.state.slots.insert(1, output);
            shell.list(list)
        });
        self.status = code;
        self.substituted = Some(code);
        let mut text = Vec::new();
        loop {
            match source.read(u32::MAX) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => text.extend(piece),
                Err(_) => return Err(self.fail("cannot read the output of a command", 2)),
            }
        }
        let text = String::from_utf8_lossy(&text);
        Ok(text.trim_end_matches('\n').replace('\0', ""))
    }

    pub fn command(&mut self, command: &Command) -> Result<(), Flow> {
        if self.state.is_on('n') {
            return Ok(());
        }
        if let Kind::Simple { assignments, words } = &command.kind {
            self.line = command.line;
            self.simple(command, assignments, words)?;
            return self.run_traps();
        }
        if command.redirects.is_empty() {
            return self.compound(command);
        }
        let Some(kept) = self.redirect(&command.redirects)? else {
            self.status = 2;
            return Ok(());
        };
        let flow = self.compound(command);
        self.restore(kept);
        flow
    }

    fn compound(&mut self, command: &Command) -> Result<(), Flow> {
        match &command.kind {
            Kind::Simple { .. } => {}
            Kind::Group(list) => self.list(list)?,
            Kind::Subshell(list) => {
                self.status = self.subshell(|shell| shell.list(list));
                self.run_traps()?;
            }
            Kind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.holds(condition)? {
                        return self.list(body);
                    }
                }
                self.status = 0;
                if let Some(list) = otherwise {
                    self.list(list)?;
                }
            }
            Kind::Loop { until, condition, body } => {
                let mut code = 0;
                self.looped(|shell| {
                    if shell.holds(condition)? == *until {
                        return Ok(false);
                    }
                    shell.list(body)?;
                    code = shell.status;
                    Ok(true)
                })?;
                self.status = code;
            }
            Kind::For { name, words, body } => {
                let values = match words {
                    Some(words) => self.fields(words)?,
                    None => self.state.arguments.clone(),
                };
                let mut values = values.into_iter();
                self.status = 0;
                self.looped(|shell| {
                    let Some(value) = values.next() else {
                        return Ok(false);
                    };
                    shell.assign(name, &value)?;
                    shell.list(body)?;
                    Ok(true)
                })?;
            }
            Kind::Case { word, arms } => self.case(word, arms)?,
            Kind::Function { name, body } => {
                self.state.functions.insert(name.clone(), body.clone());
                self.status = 0;
            }
        }
        Ok(())
    }

    fn holds(&mut self, condition: &List) -> Result<bool, Flow> {
        self.tested += 1;
        let flow = self.list(condition);
        self.tested -= 1;
        flow?;
        Ok(self.status == 0)
    }

    /// Runs turns until one says that it was the last.
    fn looped(&mut self, mut turn: impl FnMut(&mut Self) -> Result<bool, Flow>) -> Result<(), Flow> {
        self.loops += 1;
        let flow = loop {
            match turn(self) {
                Ok(true) | Err(Flow::Continue(1)) => {}
                Ok(false) => break Ok(()),
                Err(Flow::Break(1)) => {
                    self.status = 0;
                    break Ok(());
                }
                Err(Flow::Break(count)) => break Err(Flow::Break(count - 1)),
                Err(Flow::Continue(count)) => break Err(Flow::Continue(count - 1)),
                Err(flow) => break Err(flow),
            }
        };
        self.loops -= 1;
        flow
    }

    fn case(&mut self, word: &Word, arms: &[(Vec<Word>, List)]) -> Result<(), Flow> {
        let value = self.single(word)?;
        for (patterns, body) in arms {
            for word in patterns {
                let pattern = self.pattern(&word.parts)?;
                if pattern::matches(&pattern, &value) {
                    self.status = 0;
                    return self.list(body);
                }
            }
        }
        self.status = 0;
        Ok(())
    }

    fn simple(&mut self, command: &Command, assignments: &[(String, Word)], words: &[Word]) -> Result<(), Flow> {
        self.substituted = None;
        let mut fields = self.fields(words)?;
        // `command` only says that a function is not meant, and that nothing is special.
        let mut plain = false;
        while fields.len() > 1 && fields[0] == "command" && !fields[1].starts_with('-') {
            fields.remove(0);
            plain = true;
        }
        let Some(name) = fields.first().cloned() else {
            return self.assignments(command, assignments);
        };
        let special = builtins::is_special(&name) && !plain;
        let function = self.state.functions.get(&name).cloned().filter(|_| !plain && !special);
        let builtin = builtins::find(&name).filter(|_| function.is_none());
        if name == "exec" && function.is_none() {
            return self.exec(command, assignments, &fields);
        }
        let kept_slots = match self.redirect(&command.redirects)? {
            Some(kept) => kept,
            None if special && !self.interactive => return Err(Flow::Failed(2)),
            None => {
                self.status = 2;
                return Ok(());
            }
        };
        let mut kept = Vec::new();
        let flow = self
            .assign_for(assignments, special && builtin.is_some(), &mut kept)
            .and_then(|()| {
                self.trace(assignments, &fields)?;
                if let Some(body) = function {
                    self.call(&body, &fields)
                } else if let Some(builtin) = builtin {
                    let code = builtin(self, &fields)?;
                    self.status = code;
                    Ok(())
                } else {
                    self.status = match self.launch(&fields, false) {
                        Ok(pid) => self.wait_for(pid),
                        Err(code) => code,
                    };
                    Ok(())
                }
            });
        for (name, variable) in kept.into_iter().rev() {
            match variable {
                Some(variable) => drop(self.state.variables.insert(name, variable)),
                None => drop(self.state.variables.remove(&name)),
            }
        }
        self.restore(kept_slots);
        flow
    }

    /// A command without a name: assignments stay.
    fn assignments(&mut self, command: &Command, assignments: &[(String, Word)]) -> Result<(), Flow> {
        match self.redirect(&command.redirects)? {
            Some(kept) => self.restore(kept),
            None => {
                self.status = 2;
                return Ok(());
            }
        }
        for (name, word) in assignments {
            let value = self.single(word)?;
            self.assign(name, &value)?;
        }
        self.trace(assignments, &[])?;
        self.status = self.substituted.unwrap_or(0);
        Ok(())
    }

    /// Assignments before a command hold while it runs; before a special one they stay.
    pub fn assign_for(
        &mut self,
        assignments: &[(String, Word)],
        stay: bool,
        kept: &mut Vec<(String, Option<super::Variable>)>,
    ) -> Result<(), Flow> {
        for (name, word) in assignments {
            let value = self.single(word)?;
            let before = self.state.variables.get(name).cloned();
            self.assign(name, &value)?;
            if !stay {
                kept.push((name.clone(), before));
                if let Some(variable) = self.state.variables.get_mut(name) {
                    variable.exported = true;
                }
            }
        }
        Ok(())
    }

    fn trace(&mut self, assignments: &[(String, Word)], fields: &[String]) -> Result<(), Flow> {
        if !self.state.is_on('x') {
            return Ok(());
        }
        let prompt = self.state.get("PS4").unwrap_or_default().to_owned();
        let mut shown = Vec::new();
        for (name, _) in assignments {
            let value = self.state.get(name).unwrap_or_default();
            shown.push(format!("{name}={value}"));
        }
        shown.extend(fields.iter().cloned());
        self.say(&format!("{prompt}{}\n", shown.join(" ")));
        Ok(())
    }

    fn call(&mut self, body: &Rc<Command>, fields: &[String]) -> Result<(), Flow> {
        if self.calls >= MAX_CALLS {
            return Err(self.fail("Maximum function recursion depth reached", 2));
        }
        let arguments = fields.get(1..).unwrap_or_default().to_vec();
        let before = std::mem::replace(&mut self.state.arguments, arguments);
        let loops = std::mem::take(&mut self.loops);
        self.hidden.push(Vec::new());
        self.calls += 1;
        let flow = self.command(body);
        self.calls -= 1;
        for (name, variable) in self.hidden.pop().unwrap_or_default().into_iter().rev() {
            match variable {
                Some(variable) => drop(self.state.variables.insert(name, variable)),
                None => drop(self.state.variables.remove(&name)),
            }
        }
        self.loops = loops;
        self.state.arguments = before;
        match flow {
            Err(Flow::Return(code)) => {
                self.status = code;
                Ok(())
            }
            flow => flow,
        }
    }

    /// `exec`: its redirections stay; with a program the shell ends as the program does.
    fn exec(&mut self, command: &Command, assignments: &[(String, Word)], fields: &[String]) -> Result<(), Flow> {
        if self.redirect(&command.redirects)?.is_none() {
            return match self.interactive {
                true => Err(Flow::Failed(2)),
                false => Err(Flow::Exit(2)),
            };
        }
        self.assign_for(assignments, true, &mut Vec::new())?;
        self.trace(assignments, fields)?;
        self.status = 0;
        let Some(program) = fields.get(1..).filter(|program| !program.is_empty()) else {
            return Ok(());
        };
        self.state.traps.remove(&0);
        Err(Flow::Exit(match self.launch(program, false) {
            Ok(pid) => self.wait_for(pid),
            Err(code) => code,
        }))
    }

    /// Writes to a stream.
    pub fn write_to(&mut self, number: u32, bytes: &[u8]) -> Result<(), Flow> {
        let result = match self.state.slots.get(&number) {
            Some(Slot::Null) => return Ok(()),
            Some(Slot::Open(End::Sink(sink))) => sink.write(bytes),
            _ => return Err(self.fail("write error: Bad file descriptor", 2)),
        };
        match result {
            Ok(()) => Ok(()),
            Err(sys::Fault::Closed) => Err(Flow::Exit(UNHEARD)),
            Err(sys::Fault::Failed(why)) => Err(self.fail(&format!("write error: {why}"), 2)),
        }
    }
}

/// Whether the failure of a pipeline as a whole counts for `-e`; that of a compound command has counted inside.
fn ends_on_failure(pipeline: &Pipeline) -> bool {
    match pipeline.commands.as_slice() {
        [command] => matches!(command.kind, Kind::Simple { .. } | Kind::Subshell(_)),
        _ => true,
    }
}
