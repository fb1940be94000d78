-- signatures: the types of the public names, as LuaLS writes them. Internal.
-- luacheck: no max string line length
return [[
neap.json: neap.Json
neap.log: neap.Log
neap.model: neap.ModelModule
neap.field: neap.FieldModule
neap.null: lightuserdata
neap.context: table<string, any>
neap.all(functions: (fun(): any)[]): any[]
neap.await(fn: function, ...: any): any ...
neap.channel(capacity?: integer): neap.Channel
neap.console(path: string, options?: { audit?: boolean }): neap.Console
neap.debug(options?: neap.DebugOptions): neap.DebugOptions
neap.error(fields: { code: string, message: string }): neap.Error
neap.event(): neap.Event
neap.every(seconds: number, fn: fun()): neap.Ticker
neap.inspect(value: any): string
neap.is_error(value: any, code?: string): boolean
neap.map(fn: (fun(item: any, index: integer): any), list: any[], options?: { concurrency?: integer }): any[]
neap.monotonic(): number
neap.now(): number
neap.pool(size: integer): neap.Pool
neap.profile(seconds: number|fun(), interval?: number): string, integer
neap.race(functions: (fun(): any)[]): any ...
neap.random_bytes(n: integer): string
neap.redis(url?: string|neap.RedisOptions, options?: neap.RedisOptions): neap.Redis
neap.scope(fn: fun(scope: neap.Scope): any): any ...
neap.semaphore(n: integer): neap.Semaphore
neap.shield(fn: function, ...: any): any ...
neap.sleep(seconds: number)
neap.spawn(fn: function, ...: any): neap.Task
neap.stats(): table
neap.stop(status?: integer)
neap.task(id?: integer): neap.Task?
neap.tasks(limit?: integer): neap.TaskInfo[]
neap.timeout(seconds: number, fn: function, ...: any): any ...
neap.token(n?: integer): string
neap.json.array(list: any[]): any[]
neap.json.decode(text: string): any
neap.json.encode(value: any, options?: { sort?: boolean, indent?: integer }): string
neap.log.debug(format: string, ...: any)
neap.log.error(format: string, ...: any)
neap.log.info(format: string, ...: any)
neap.log.level(name: "debug"|"info"|"warn"|"error")
neap.log.warn(format: string, ...: any)
scope:spawn(fn: function, ...: any): neap.Task
task:cancel()
task:info(): neap.TaskInfo
task:join(): any ...
task:name(text?: string): neap.Task|string?
task:status(): "ready"|"running"|"waiting"|"done"|"failed"|"cancelled"
task:traceback(): string
pool:join()
pool:map(fn: (fun(item: any, index: integer): any), list: any[]): any[]
pool:spawn(fn: function, ...: any): neap.Task
ticker:stop()
channel:close()
channel:each(): fun(): any
channel:receive(): any, string?
channel:send(value: any)
semaphore:acquire()
semaphore:release()
semaphore:with(fn: function, ...: any): any ...
event:clear()
event:set()
event:wait()
console:close()
model.all(conditions: table): neap.Condition
model.any(conditions: table): neap.Condition
model.between(low: any, high: any): neap.Condition
model.contains(v: any): neap.Condition
model.define(name: string, fields: table<string, neap.Field>, options?: neap.ModelOptions): neap.Model
model.ge(v: any): neap.Condition
model.gt(v: any): neap.Condition
model.iso(seconds: number): string?
model.le(v: any): neap.Condition
model.lt(v: any): neap.Condition
model.methods: table<string, function>
model.ne(v: any): neap.Condition
model.none(conditions: table): neap.Condition
model.now(): number
model.prefix(text: string): neap.Condition
model.seconds(text: string): number?
model.uuid(): string
field.boolean(options?: neap.FieldOptions): neap.Field
field.bytes(options?: neap.FieldOptions): neap.Field
field.date(options?: neap.FieldOptions): neap.Field
field.enum(options: neap.FieldOptions|string[]): neap.Field
field.integer(options?: neap.FieldOptions): neap.Field
field.json(options?: neap.FieldOptions): neap.Field
field.list(element: function|neap.Field, options?: neap.FieldOptions): neap.Field
field.number(options?: neap.FieldOptions): neap.Field
field.ref(to: neap.Model|string, options?: neap.FieldOptions): neap.Field
field.set(element: function|neap.Field, options?: neap.FieldOptions): neap.Field
field.string(options?: neap.FieldOptions): neap.Field
field.text(options?: neap.FieldOptions): neap.Field
field.time(options?: neap.FieldOptions): neap.Field
field.uuid(options?: neap.FieldOptions): neap.Field
Model:create(fields: table<string, any>, options?: { ttl?: number|false }): neap.Row
Model:create_many(rows: table<string, any>[], options?: { ttl?: number|false }): neap.Row[]
Model:drop(options?: { progress?: neap.Progress })
Model:exists(id: any): boolean
Model:has_many(name: string, other: neap.Model, field: string)
Model:has_stored_rows(): boolean
Model:increment(id: any, by: table<string, number>): neap.Row
Model:load(id: any): neap.Row?
Model:load_many(ids: any[]): (neap.Row|false)[]
Model:rows(): neap.Query
Model:save_many(rows: neap.Row[]): neap.Row[]
Model:stats(options?: { progress?: neap.Progress }): { rows: integer, segments: integer, memory: { name: string, bytes: number, keys: integer }[] }
Model:sweep(): integer
Model:sync(options?: { progress?: neap.Progress }): "created"|"updated"|"unchanged", string[]
Model:upsert(fields: table<string, any>): neap.Row
Model:verify(options?: { repair?: boolean, progress?: neap.Progress }): table
Model.methods: table<string, function>
Model:where(conditions: table<string, any>|neap.Condition|string, value?: any, options?: { scan?: boolean }): neap.Query
query:all(): neap.Row[]
query:avg(field: string): number?
query:count(): integer
query:count_by(field: string): table<any, integer>
query:delete(options?: { all?: boolean }): integer
query:each(): fun(): neap.Row?
query:exists(): boolean
query:explain(options?: { analyze?: boolean }): string
query:first(): neap.Row?
query:ids(): any[]
query:limit(n: integer): neap.Query
query:max(field: string): any
query:min(field: string): any
query:offset(n: integer): neap.Query
query:one(): neap.Row?
query:order_by(field: string, direction?: "asc"|"desc"): neap.Query
query:page(options?: { size?: integer, after?: string }): neap.Row[], string?
query:pluck(field: string): any[]
query:sum(field: string): number
query:update(values: table<string, any>, options?: { all?: boolean }): integer
query:where(conditions: table<string, any>|neap.Condition|string, value?: any, options?: { scan?: boolean }): neap.Query
query:with(reference: string, ...: string): neap.Query
row:delete()
row:expire(seconds: number|false): neap.Row
row:expires_at(): number?
row:increment(field: string, by?: number): number
row:primary_key(): string
row:related(field: string): neap.Row?
row:reload(): neap.Row
row:save(): neap.Row
row:to_table(): table<string, any>
row:tojson(): string
row:touch(): neap.Row
redis:call(name: string, ...: any): any
redis:client(...: any): any
redis:close()
redis:consume(stream: string, options: table): fun(): any
redis:functions(source: string): table
redis:hscan(key: string, options?: { match?: string, count?: integer }): fun(): (string?, string?)
redis:lua(source: string): fun(keys?: string[], ...: any): any
redis:multi(fn: fun(tx: neap.Pipeline)): any[]
redis:pipeline(fn: fun(p: neap.Pipeline)): any[]
redis:psubscribe(pattern: string|string[], ...: any): neap.Subscription
redis:scan(options?: { match?: string, count?: integer, type?: string }): fun(): string?
redis:sscan(key: string, options?: { match?: string, count?: integer }): fun(): string?
redis:stats(): table<string, any>
redis:subscribe(channel: string|string[], ...: any): neap.Subscription
redis:trace(fn: (fun(call: table))|boolean, options?: { values?: boolean })
redis:watch(keys: string|string[], fn: (fun(tx: neap.Transaction): any), options?: { retries?: integer }): any ...
redis:zscan(key: string, options?: { match?: string, count?: integer }): fun(): (string?, string?)
p:call(name: string, ...: any)
p:client(...: any)
p:lua(script: function, keys?: string[], ...: any)
p:script(...: any)
tx:call(name: string, ...: any): any
tx:multi(fn: fun(tx: neap.Pipeline)): any[]
sub:close()
sub:events(): fun(): neap.Message?
sub:messages(): fun(): neap.Message?
sub:next(): neap.Message?
sub:psubscribe(pattern: string|string[], ...: string)
sub:punsubscribe(pattern: string|string[], ...: string)
sub:subscribe(channel: string|string[], ...: string)
sub:unsubscribe(channel: string|string[], ...: string)
http.app(options?: neap.ListenOptions): neap.App
http.escape(text: string): string
http.fail(status: integer, message?: string)
http.fetch(url: string, options?: table): neap.Response
http.open_servers: table<neap.Server, boolean>
http.url_decode(text: string, plus_is_space?: boolean): string?
http.url_encode(text: string): string
app:any(pattern: string, handler: neap.Handler): neap.App
app:delete(pattern: string, handler: neap.Handler): neap.App
app:get(pattern: string, handler: neap.Handler): neap.App
app:head(pattern: string, handler: neap.Handler): neap.App
app:listen(port?: integer|neap.ListenOptions): neap.Server
app:options(pattern: string, handler: neap.Handler): neap.App
app:patch(pattern: string, handler: neap.Handler): neap.App
app:post(pattern: string, handler: neap.Handler): neap.App
app:put(pattern: string, handler: neap.Handler): neap.App
app:request(method: string, target: string, options?: table): neap.Response
app:route(method: string, pattern: string, handler: neap.Handler): neap.App
app:use(fn: fun(req: neap.Request, next: fun(): table): any): neap.App
server:close()
server:connections(): integer
server:requests(): integer
server:stop()
req.body: string
req.cookies: table<string, string>
req.form: table<string, string>
req.headers: table<string, string>
req.host: string
req.id: string
req.json: any
req.params: table<string, string>
req.query: table<string, string>
req.query_string: string
req.remote: string
req.target: string
req:form_all(name: string): string[]
req:header_table(): table<string, string>
req:query_all(name: string): string[]
response:all(name: string): string[]
response:chunks(): fun(): string?
response:close()
response:read(): string?
]]
