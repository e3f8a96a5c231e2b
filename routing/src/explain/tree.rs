//! Lines below each other, as `tree` draws them.

/// A line and what is below it.
#[derive(Debug)]
pub struct Tree {
    text: String,
    below: Vec<Tree>,
}

impl Tree {
    /// A line with nothing below it.
    pub fn new(text: impl Into<String>) -> Tree {
        Tree {
            text: text.into(),
            below: Vec::new(),
        }
    }

    /// Each of these below the one before it.
    pub fn chain(first: Tree, rest: Vec<Tree>) -> Tree {
        let mut below = None;
        for mut node in rest.into_iter().rev() {
            node.below.extend(below.take());
            below = Some(node);
        }
        let mut first = first;
        first.below.extend(below);
        first
    }

    /// Put this below the line, behind what is there.
    pub fn push(&mut self, node: Tree) {
        self.below.push(node);
    }

    /// Put these below the line, behind what is there.
    pub fn extend(&mut self, nodes: impl IntoIterator<Item = Tree>) {
        self.below.extend(nodes);
    }

    /// Add to the line.
    pub fn say(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The lines, each with its end.
    pub fn render(&self) -> String {
        let mut out = format!("{}\n", self.text);
        self.draw("", &mut out);
        out
    }

    fn draw(&self, indent: &str, out: &mut String) {
        for (i, node) in self.below.iter().enumerate() {
            let last = i + 1 == self.below.len();
            let (branch, below) = match last {
                true => ("└─ ", "   "),
                false => ("├─ ", "│  "),
            };
            out.push_str(&format!("{indent}{branch}{}\n", node.text));
            node.draw(&format!("{indent}{below}"), out);
        }
    }
}
