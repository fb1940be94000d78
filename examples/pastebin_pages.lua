-- pastebin_pages: the HTML of pastebin.lua. Every value is escaped where it goes
-- into a template.
local http = require "neap.http"
local Paste = require "models.paste"
local M = {}

local style = [[
:root { color-scheme: light dark; --ink: #1c2024; --dim: #667080; --line: #d9dee5; --page: #fff;
  --box: #f5f7f9; --link: #0a5bd0 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --dim: #98a2ae; --line: #343b44;
  --page: #14181d; --box: #1d2329; --link: #7db4ff } }
* { box-sizing: border-box }
body { max-width: 58rem; margin: 0 auto; padding: 0 1rem 3rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
header, .row { display: flex; flex-wrap: wrap; gap: .75rem 1.25rem; align-items: center }
header { padding: 1rem 0; margin-bottom: 1.5rem; border-bottom: 1px solid var(--line) }
header b { margin-right: auto }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
.dim { color: var(--dim) } .problem { border-left: 4px solid #d33; padding-left: .75rem }
pre, textarea, input, select, button { padding: .6rem .75rem; border: 1px solid var(--line);
  border-radius: .5rem; background: var(--box); color: inherit; font: inherit }
pre, textarea, code { font: .9rem/1.5 ui-monospace, Menlo, Consolas, monospace; tab-size: 4 }
pre { overflow-x: auto; min-height: 4rem } textarea { width: 100%; height: 55vh; resize: vertical }
input { flex: 1 1 14rem; min-width: 0 } form, details { margin-top: 1rem }
textarea:focus, input:focus, select:focus { outline: 2px solid var(--link); outline-offset: -1px }
button { background: var(--link); color: var(--page); border-color: transparent; cursor: pointer }
ul { padding: 0; list-style: none } li { padding: .5rem 0; border-bottom: 1px solid var(--line) }
li.row { gap: 0 1.25rem } li a { min-width: 6rem } li a:first-child { flex: 1 1 24rem }
li a, time { overflow-wrap: anywhere; font-variant-numeric: tabular-nums }]]

local layout = [[
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{title}} · pastebin</title>
<style>{{{style}}}</style>
</head>
<body>
<header><b><a href="/">pastebin</a></b> <a href="/">New</a> <a href="/recent">Recent</a></header>
<main>{{{main}}}</main>
</body>
</html>
]]

-- HTML drops the first line break in <textarea> and <pre>, so there is one.
local form = [[
<h1>New paste</h1>
{{{note}}}
<form method="post" action="/pastes">
<textarea name="body" aria-label="Text" placeholder="Paste your text here" autofocus>
{{body}}</textarea>
<div class="row">
<input name="title" aria-label="Title" placeholder="Title (optional)" value="{{title}}">
<select name="language" aria-label="Language">{{{languages}}}</select>
<label><span class="dim">Expires after</span>
<select name="expiry">{{{expiries}}}</select></label>
<button>Paste</button>
</div>
</form>
]]

local view = [[
<h1>{{title}}</h1>
<div class="row dim">
<a href="/language/{{language}}">{{language}}</a> <time>{{time}}</time> {{{expiry}}}
<span>{{size}} bytes</span> <a href="/raw/{{id}}">Raw</a>
</div>
<pre>
{{body}}</pre>
<details {{open}}>
<summary>Delete this paste</summary>
{{{note}}}
<form method="post" action="/p/{{id}}/delete" class="row">
<input name="token" aria-label="Token" placeholder="Its author's token" value="{{token}}"
autocomplete="off"> <button>Delete</button>
</form>
</details>
]]

local item = [[
<li class="row"><a href="/p/{{id}}">{{title}}</a>
<a href="/language/{{language}}">{{language}}</a> <time class="dim">{{time}}</time></li>
]]

-- fill puts values into a template: {{name}} escaped, {{{name}}} as they are.
local function fill(template, values)
  return (template:gsub("{{({?)([%l_]+)}}}?", function(raw, name)
    return raw == "{" and values[name] or http.escape(values[name])
  end))
end

local function page(title, main, status)
  return { status = status, html = fill(layout, { title = title, main = main, style = style }) }
end

--- pages.missing(): says that there is no such thing.
function M.missing()
  return page("Not found", "<h1>Not found</h1><p>There is nothing here, or not any more.</p>", 404)
end

local function problem(text)
  return text and fill([[<p class="problem" role="alert">{{text}}</p>]], { text = text })
end

-- options returns the choices of a <select>.
local function options(names, chosen)
  local list = {}
  for i, name in ipairs(names) do
    local selected = name == chosen and " selected" or ""
    list[i] = fill("<option{{selected}}>{{name}}</option>", { name = name, selected = selected })
  end
  return table.concat(list)
end

--- pages.form(typed, wrong): the form, with what was typed and what is wrong.
function M.form(typed, wrong)
  return page("New paste", fill(form, { body = typed.body or "", title = typed.title or "",
    languages = options(Paste.fields.language.values, typed.language or "text"),
    expiries = options(Paste.expiries, typed.expiry or "never"),
    note = problem(wrong) or "" }), wrong and 422)
end

local function time_text(seconds)
  return os.date("!%Y-%m-%d %H:%M UTC", math.floor(seconds))
end

-- shown returns what the templates show of a paste.
local function shown(paste)
  return { id = paste.id, title = paste.title or "Untitled", language = paste.language,
    body = paste.body, size = #paste.body, time = time_text(paste.created_at) }
end

--- pages.paste(paste, token, wrong): a paste, and the form that deletes it; the
-- token is what its author's browser keeps, or what somebody typed.
function M.paste(paste, token, wrong)
  local values, ends = shown(paste), paste:expires_at()
  values.expiry = ends and fill("<span>expires <time>{{time}}</time></span>",
    { time = time_text(ends) }) or ""
  values.token, values.open = token or "", token and "open" or ""
  values.note = problem(wrong) or token and [[<p class="dim">This browser keeps the token, and
anyone who has it can delete the paste.</p>]] or ""
  return page(values.title, fill(view, values), wrong and 403)
end

--- pages.list(title, pastes, older): a list of pastes; older is where those that follow are.
function M.list(title, pastes, older)
  local items = {}
  for i, paste in ipairs(pastes) do items[i] = fill(item, shown(paste)) end
  if #items == 0 then items[1] = [[<li class="dim">Nothing yet.</li>]] end
  local link = older and fill([[<a rel="next" href="{{older}}">Older pastes</a>]],
    { older = older }) or ""
  return page(title, fill("<h1>{{title}}</h1><ul>{{{items}}}</ul>{{{link}}}", { title = title,
    items = table.concat(items), link = link }))
end

return M
